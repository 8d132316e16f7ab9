"""The demonstration runs the real `remove` with a real (tiny, untrained) model; what it says about it must be true."""

import json

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from PIL import Image

from unclouded import demo
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation.metrics import psnr_uint8, ssim_luma
from unclouded.models.card import ModelCard
from unclouded.models.registry import build_model
from unclouded.models.store import save
from unclouded.scenes.bands import BandSet

SIDE = 96


def model_file(folder, *bands):
    torch.manual_seed(1)
    architecture = {"bands": len(bands), "prior": "light"}
    path = folder / f"tiny{len(bands)}.safetensors"
    card = ModelCard(name="tiny", method="prior", architecture=architecture, bands=BandSet.display(*bands))
    model = build_model("prior", architecture)
    with torch.no_grad():
        for parameter in model.parameters():  # fresh priors may be the identity
            parameter.add_(0.02 * torch.randn_like(parameter))
    save(path, model, card)
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    model = model_file(folder, "red", "green", "blue")
    return demo.run_demo(folder / "out", side=SIDE, seed=7, model=str(model))


def read(path):
    with rasterio.open(path) as file:
        return file.read(), (file.crs, file.transform, file.descriptions, file.colorinterp)


def test_the_scene_has_clouds_and_open_ground_whose_pixels_are_the_truth():
    scene = demo.make_scene(256)
    assert 0.2 < scene.touched.mean() < 0.95
    np.testing.assert_array_equal(scene.cloudy[:, ~scene.touched], scene.clear[:, ~scene.touched])
    assert (scene.cloudy != scene.clear)[:, scene.touched].any(axis=0).mean() > 0.9
    np.testing.assert_array_equal(scene.cloudy, demo.make_scene(256).cloudy)


def test_the_files_hold_the_scene_on_one_grid(done):
    cloudy, facts = read(done.files["cloudy"])
    truth, truth_facts = read(done.files["truth"])
    clear, clear_facts = read(done.files["clear"])
    assert facts == truth_facts == clear_facts
    assert facts[0].to_epsg() == 32632
    assert facts[2] == ("red", "green", "blue", "nir")
    scene = demo.make_scene(SIDE, 7)
    np.testing.assert_array_equal(cloudy, scene.cloudy)
    np.testing.assert_array_equal(truth, scene.clear)
    np.testing.assert_array_equal(clear[3], cloudy[3])  # a band that the model does not know passes through
    assert (clear[:3] != cloudy[:3]).any()


def test_the_scores_are_those_of_the_files(done):
    truth, _ = read(done.files["truth"])
    for when, name in (("before", "cloudy"), ("after", "clear")):
        image, _ = read(done.files[name])
        assert done.scores[when]["psnr"] == pytest.approx(psnr_uint8(image[:3], truth[:3]), abs=1e-4)
        assert done.scores[when]["ssim"] == pytest.approx(ssim_luma(image[:3], truth[:3]), abs=1e-4)
    assert json.loads(done.files["scores"].read_text())["scores"] == done.scores


def test_the_pictures_show_the_panels(done):
    with Image.open(done.files["before_after"]) as picture:
        assert picture.width >= 2 * SIDE
    truth, _ = read(done.files["truth"])
    with Image.open(done.files["comparison"]) as picture:
        np.testing.assert_array_equal(np.asarray(picture)[:, -SIDE:], np.moveaxis(truth[:3], 0, -1))


def test_it_can_be_repeated_but_leaves_the_folders_of_others_alone(tmp_path):
    model = str(model_file(tmp_path, "red", "green", "blue", "nir"))
    words = [str(tmp_path / "d"), "--side", "64", "--model", model, "--json"]
    first, second = (CliRunner().invoke(demo_command(), words) for _ in range(2))
    assert first.exit_code == second.exit_code == 0, first.output
    assert json.loads(first.stdout)["scores"] == json.loads(second.stdout)["scores"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cloudy.tif").write_text("precious")
    with pytest.raises(UncloudedError, match="no demo made"):
        demo.run_demo(tmp_path / "mine", side=64, model=model)
    assert (tmp_path / "mine" / "cloudy.tif").read_text() == "precious"


def demo_command():
    from unclouded.cli.demo import demo as command

    return command


def test_a_tiny_side_is_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 64"):
        demo.run_demo(tmp_path, side=8)

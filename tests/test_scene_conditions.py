"""`remove` with further dates and radar: what the model sees is each file's own pixels on the scene's grid."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine
from rasterio.warp import Resampling, reproject

from unclouded.cli import main
from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.base import RestorationModel
from unclouded.models.card import ModelCard
from unclouded.models.de import DE, DEConfig
from unclouded.models.diffcr import DiffCR, DiffCRConfig
from unclouded.models.unet import UNetConfig
from unclouded.restore import load
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet, backscatter
from unclouded.whole_scene import restore_scene

GRID = Affine(10, 0, 500000, 0, -10, 4600000)
RGB = BandSet.display("red", "green", "blue")
HEIGHT, WIDTH = 41, 57
FEW = Sampling(sampler="dpm", steps=2, spacing="linspace")


def write(path: Path, pixels: np.ndarray, transform: Affine = GRID, **profile: Any) -> Path:
    size = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype.name}
    options = {"driver": "GTiff", "crs": "EPSG:32633", "transform": transform, **size, **profile}
    with rasterio.open(path, "w", **options) as file:
        file.write(pixels)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, (3, height, width)).astype(np.uint8)


def radar_image(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-24, -4, (2, height, width)).astype(np.float32)


class Second:
    """A model of two dates, or with radar, that answers with what it was given besides the scene."""

    bands = RGB

    def __init__(self, frames: int = 2, sar: int = 0, last: int | None = None) -> None:
        self.frames, self.sar, self.last = frames, sar, last
        self.seen: list[torch.Tensor] = []

    def restore(self, y: torch.Tensor, origins: Any, sampling: Any = None) -> SimpleNamespace:
        if len(self.seen) == self.last:
            raise KeyboardInterrupt
        assert y.shape[1] == 3 * self.frames + self.sar
        self.seen.append(y)
        return SimpleNamespace(clear=y[:, 3 * (self.frames - 1) : 3 * self.frames].clone())


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write(tmp_path / "scene.tif", picture(0))


def test_a_date_on_the_scenes_grid_reaches_the_model_to_the_bit(scene: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.tif", picture(1))
    restore_scene(scene, tmp_path / "out.tif", model=Second(), dates=[other], tile=16, overlap=4, panel_width=24)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), picture(1))


def test_a_date_on_another_grid_is_what_gdal_makes_of_it(scene: Path, tmp_path: Path) -> None:
    """Another zone and pixel size, and larger than the scene; tiled, masked by windows, nowhere torn."""
    coarse = np.kron(picture(1, 12, 14), np.ones((1, 8, 8), np.uint8))
    place = Affine(7, 0, 499900, 0, -7, 4600100)
    other = write(tmp_path / "other.tif", coarse, place)
    restore_scene(scene, tmp_path / "out.tif", model=Second(), dates=[other], tile=16, overlap=4)
    expected = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    reproject(
        coarse, expected, src_transform=place, src_crs="EPSG:32633", dst_transform=GRID, dst_crs="EPSG:32633",
        resampling=Resampling.bilinear,
    )  # fmt: skip
    found = read(tmp_path / "out.tif").astype(int)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - picture(0)).mean() > 20


def test_where_a_date_has_no_data_the_model_sees_the_scene_again(scene: Path, tmp_path: Path) -> None:
    half = write(tmp_path / "half.tif", picture(1)[:, :, :20])
    clouded = picture(2)
    clouded[:, :10] = 0
    holes = write(tmp_path / "holes.tif", clouded, nodata=0)
    for path, inside in [(half, np.s_[:, :, :20]), (holes, np.s_[:, 10:])]:
        restore_scene(scene, tmp_path / "out.tif", model=Second(), dates=[path], tile=16, overlap=4, overwrite=True)
        expected = picture(0)
        expected[inside] = read(path)[inside]
        np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected)


def test_each_date_is_read_by_its_own_numbers(tmp_path: Path) -> None:
    """uint16 reflectance with an offset of its own beside a scene without one, bands in another order."""
    scene = write(tmp_path / "scene.tif", (picture(0).astype(np.uint16) * 10))
    other = write(tmp_path / "other.tif", (picture(0)[::-1].astype(np.uint16) * 10 + 1000))
    with rasterio.open(other, "r+") as file:
        file.scales, file.offsets = (1e-4,) * 3, (-0.1,) * 3
        file.descriptions = ("blue", "green", "red")
    model = Second()
    restore_scene(scene, tmp_path / "out.tif", model=model, dates=[other])
    [y] = model.seen
    torch.testing.assert_close(y[:, 3:], y[:, :3], atol=1e-6, rtol=0)


def test_radar_is_found_by_its_names_and_scaled_as_in_training(scene: Path, tmp_path: Path) -> None:
    db = radar_image(3)
    db[:, :5, :5] = np.nan
    radar = write(tmp_path / "s1.tif", db[::-1])
    with rasterio.open(radar, "r+") as file:
        file.descriptions = ("VH", "VV")
    model = Second(frames=1, sar=2)
    restore_scene(scene, tmp_path / "out.tif", model=model, sar=radar)
    torch.testing.assert_close(model.seen[0][0, 3:], torch.from_numpy(backscatter(db)))
    assert (model.seen[0][0, 3:, :5, :5] == 0).all()
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), picture(0))


def test_pictures_have_dates_of_the_same_size(tmp_path: Path) -> None:
    from PIL import Image

    for seed, name in enumerate(("a.png", "b.png", "small.png")):
        size = (HEIGHT, WIDTH) if seed < 2 else (8, 8)
        Image.fromarray(picture(seed, *size).transpose(1, 2, 0)).save(tmp_path / name)
    restore_scene(tmp_path / "a.png", tmp_path / "out.png", model=Second(), dates=[tmp_path / "b.png"])
    found = np.asarray(Image.open(tmp_path / "out.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(found, picture(1))
    with pytest.raises(UncloudedError, match="the date of 8 × 8 pixels is not as large as the scene of 57 × 41"):
        restore_scene(tmp_path / "a.png", tmp_path / "no.png", model=Second(), dates=[tmp_path / "small.png"])


def small(kind: str) -> RestorationModel:
    network: dict[str, Any] = {"channels": 16, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1}
    if kind.startswith("diffcr"):
        model: Any = DiffCR(DiffCRConfig(frames=int(kind[-1]), width=4, encoder_blocks=(1,), decoder_blocks=(1,)))
    else:
        frames, sar = (2, 0) if kind == "de-n2" else (1, 2)
        prior = {"prior": "light", "prior_options": {"channels": (8, 8), "blocks": (1, 1)}}
        networks = {"cnp": UNetConfig(6 + sar, 3, **network), "wa": UNetConfig(9 + sar, 3, **network)}
        model = DE(DEConfig(frames=frames, sar=sar, **prior, **networks))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=["de-n2", "de-sar", "diffcr-n2", "diffcr-n3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = small(request.param)
    card = ModelCard(
        name=request.param, method=request.param.split("-")[0], architecture=network.config.model_dump(mode="json"),
        bands=RGB, sampling=FEW,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / f"{request.param}.safetensors"
    store.save(path, network, card)
    return path


def given(model: Path, folder: Path) -> tuple[list[str], list[np.ndarray]]:
    """The options that the model needs, and the images behind them, in [0, 1]."""
    restorer = load(str(model), device="cpu")
    options, images = [], []
    for n in range(1, restorer.frames):
        options += ["--date", str(write(folder / f"date{n}.tif", picture(n)))]
        images.append(picture(n).astype(np.float32) / 255)
    if restorer.sar:
        options += ["--sar", str(write(folder / "s1.tif", radar_image(9)))]
        images.append(backscatter(radar_image(9)))
    return options, images


def remove(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["remove", *map(str, arguments)])
    return int(exit_.value.code or 0)


def test_every_kind_of_model_gives_what_it_gives_for_the_stacked_images(
    model: Path, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, images = given(model, tmp_path)
    assert remove(scene, tmp_path / "out.tif", "--model", model, *options, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [*report["dates"], *filter(None, [report["sar"]])] == options[1::2]
    seen = np.concatenate([picture(0).astype(np.float32) / 255, *images])
    assert seen.shape[1:] == (HEIGHT, WIDTH)
    clear = load(str(model), device="cpu").restore(torch.from_numpy(seen)[None], [(0, 0)]).clear[0].numpy()
    found = read(tmp_path / "out.tif").astype(float)
    assert np.abs(found - 255 * clear).max() < 0.51
    with rasterio.open(tmp_path / "out.tif") as file:
        names = [file.tags().get(f"UNCLOUDED_{kind}") for kind in ("DATES", "SAR")]
    assert ", ".join(filter(None, names)) == ", ".join(Path(path).name for path in options[1::2])


def test_a_dry_run_counts_what_the_model_sees(model: Path, scene: Path, tmp_path: Path, capsys: Any) -> None:
    options, _ = given(model, tmp_path)
    assert remove(scene, tmp_path / "out.tif", "--model", model, *options, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert [*plan["dates"], *filter(None, [plan["sar"]])] == options[1::2]
    assert not (tmp_path / "out.tif").exists()


def test_what_a_model_needs_is_said_before_any_work(model: Path, scene: Path, tmp_path: Path, capsys: Any) -> None:
    assert remove(scene, tmp_path / "out.tif", "--model", model) == 2
    err = capsys.readouterr().err
    expected = {
        "de-n2": "takes cloudy images of 2 dates, and --date gives 0 beside the scene. Give --date 1 times",
        "de-sar": "also takes Sentinel-1's VV and VH. Give them in dB with --sar FILE",
        "diffcr-n2": "cloudy images of 2 dates",
        "diffcr-n3": "takes cloudy images of 3 dates, and --date gives 0 beside the scene. Give --date 2 times",
    }
    assert expected[model.stem] in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("frames", "sar", "dates", "radar", "message"),
    [
        (1, 0, ["same"], None, "takes one cloudy image, and --date gives 1 beside the scene"),
        (2, 0, ["same", "same"], None, "takes cloudy images of 2 dates, and --date gives 2"),
        (1, 0, [], "s1", "takes no radar image"),
        (2, 0, ["elsewhere"], None, "The date .*elsewhere.tif .* does not overlap"),
        (2, 0, ["two bands"], None, "two bands.tif has 2 bands"),
        (2, 0, ["absent"], None, "absent.tif does not exist"),
        (1, 2, [], "one band", r"one band.tif has 1 band, where Sentinel-1's VV and VH in dB were looked for"),
        (1, 2, [], "linear", r"\(medians 0.\d+, 0.\d+\) are not decibels"),
        (1, 2, [], "s1 elsewhere", "The radar image .* does not overlap"),
    ],
)
def test_files_that_do_not_fit(scene: Path, tmp_path: Path, frames: int, sar: int, dates: list[str], radar: str | None,
                               message: str) -> None:  # fmt: skip
    far = Affine(10, 0, 900000, 0, -10, 4600000)
    power = np.random.default_rng(0).uniform(0.01, 0.3, (2, 9, 9)).astype(np.float32)
    write(tmp_path / "same.tif", picture(1))
    write(tmp_path / "elsewhere.tif", picture(1), far)
    write(tmp_path / "two bands.tif", picture(1)[:2])
    write(tmp_path / "s1.tif", radar_image(1))
    write(tmp_path / "one band.tif", radar_image(1)[:1])
    write(tmp_path / "linear.tif", power)
    write(tmp_path / "s1 elsewhere.tif", radar_image(1), far)
    options = {"dates": [tmp_path / f"{name}.tif" for name in dates]}
    with pytest.raises(UncloudedError, match=message):
        restore_scene(
            scene, tmp_path / "out.tif", model=Second(frames, sar), **options,
            sar=None if radar is None else tmp_path / f"{radar}.tif",
        )  # fmt: skip
    assert not (tmp_path / "out.tif").exists()


def test_an_output_is_never_one_of_them(scene: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.tif", picture(1))
    with pytest.raises(UsageError, match=r"OUTPUT and --date .*other.tif are the same file"):
        restore_scene(scene, other, model=Second(), dates=[other], overwrite=True)
    np.testing.assert_array_equal(read(other), picture(1))


def test_a_resumed_run_wants_the_same_dates(scene: Path, tmp_path: Path) -> None:
    """Stopped after some rows: another date is refused, the same one ends in the bytes of an undisturbed run."""
    first, second = (write(tmp_path / f"{name}.tif", picture(n)) for n, name in enumerate(("a", "b"), start=1))
    whole, out = tmp_path / "whole.tif", tmp_path / "out.tif"
    options: dict[str, Any] = {"tile": 16, "overlap": 4, "batch_size": 1}
    restore_scene(scene, whole, model=Second(), dates=[first], **options)
    with pytest.raises(KeyboardInterrupt):
        restore_scene(scene, out, model=Second(last=14), dates=[first], **options)
    stopped = tmp_path / "stopped"
    shutil.copytree(tmp_path / ".out.tif.partial", stopped)
    with pytest.raises(UncloudedError, match=r"The unfinished run had --date .*a.tif"):
        restore_scene(scene, out, model=Second(), dates=[second], resume=True, **options)
    if not (tmp_path / ".out.tif.partial").exists():
        stopped.rename(tmp_path / ".out.tif.partial")
    rest = Second()
    restore_scene(scene, out, model=rest, dates=[first], resume=True, **options)
    assert len(rest.seen) == 15  # of 4 rows of 5 tiles; the first was finished
    assert out.read_bytes() == whole.read_bytes()


def test_a_folder_of_scenes_has_no_dates_of_one(scene: Path, tmp_path: Path, capsys: Any) -> None:
    assert remove(tmp_path, tmp_path / "out", "--date", scene) == 2
    assert "--date is for one scene" in capsys.readouterr().err

"""`unclouded data simulate`: pair folders that read back, resume, and leave clear pixels alone."""

import json

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio.transform import Affine

from unclouded.cli.data_simulate import data_simulate
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.simulated import SimulationOptions, simulate_pairs
from unclouded.errors import UncloudedError, UsageError


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def options(**changes):
    return SimulationOptions(**{"size": 24, "kind": "mixed", "seed": 5, **changes})


@pytest.fixture
def clear_folder(tmp_path):
    folder = tmp_path / "clear"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_landscape_pairs_read_back_as_a_data_folder(tmp_path):
    out = tmp_path / "pairs"
    assert list(simulate_pairs(out, landscapes=3, options=options())) == [
        (f"landscape_{i:05d}", True) for i in range(3)
    ]
    pairs = read_pairs(out)
    assert [pair.stem for pair in pairs] == [f"landscape_{i:05d}" for i in range(3)]
    for pair in pairs:
        cloudy, clear = pair.read()
        assert cloudy.shape == clear.shape == (3, 24, 24)
        assert (cloudy != clear).any()


@pytest.mark.parametrize(
    ("bands", "colours"),
    [
        (("red", "green", "blue", "nir"), ["red", "green", "blue", "undefined"]),
        (("nir", "red", "green", "blue"), ["gray", "undefined", "undefined", "undefined"]),
    ],
)
def test_near_infrared_is_not_called_alpha(tmp_path, bands, colours):
    list(simulate_pairs(tmp_path / "pairs", landscapes=1, options=options(bands=bands)))
    for file in (tmp_path / "pairs").rglob("*.tif"):
        with rasterio.open(file) as written:
            assert [colour.name for colour in written.colorinterp] == colours
            assert written.descriptions == bands


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        list(simulate_pairs(tmp_path / name, landscapes=2, options=options(seed=seed)))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    image = "cloud/landscape_00000.png"
    assert (tmp_path / "one" / image).read_bytes() != (tmp_path / "other" / image).read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, clear_folder):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    list(simulate_pairs(whole, clear=clear_folder, options=options(per_image=3)))
    run = simulate_pairs(broken, clear=clear_folder, options=options(per_image=3))
    for _ in range(2):
        next(run)
    run.close()
    (broken / "label" / "a_0.png").unlink()  # a file that was lost is made again
    again = dict(simulate_pairs(broken, clear=clear_folder, options=options(per_image=3)))
    assert again == {"a_0": True, "a_1": False, "a_2": True, "b_0": True, "b_1": True, "b_2": True}
    assert contents(broken) == contents(whole)


def test_more_landscapes_keep_the_first_ones(tmp_path):
    list(simulate_pairs(tmp_path / "x", landscapes=1, options=options()))
    assert [new for _, new in simulate_pairs(tmp_path / "x", landscapes=3, options=options())] == [False, True, True]


def test_other_settings_and_foreign_folders_are_refused(tmp_path):
    list(simulate_pairs(tmp_path / "x", landscapes=1, options=options()))
    before = contents(tmp_path / "x")
    with pytest.raises(UncloudedError, match="another seed"):
        list(simulate_pairs(tmp_path / "x", landscapes=1, options=options(seed=9)))
    assert contents(tmp_path / "x") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(UncloudedError, match="not made by this command"):
        list(simulate_pairs(tmp_path / "mine", landscapes=1, options=options()))


def test_labels_are_the_clear_images_and_clear_pixels_keep_their_numbers(tmp_path):
    folder, out = tmp_path / "clear", tmp_path / "out"
    folder.mkdir()
    dn = np.random.default_rng(1).integers(0, 20000, (4, 48, 40)).astype(np.uint16)
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 400000, 0, -10, 5e6)}
    with rasterio.open(folder / "s.tif", "w", "GTiff", 40, 48, 4, dtype="uint16", **grid) as file:
        file.write(dn)
    list(simulate_pairs(out, clear=folder, options=SimulationOptions(kind="thick", coverage=0.4, gsd=30)))
    (pair,) = read_pairs(out)
    cloudy, clear = pair.read()
    np.testing.assert_array_equal(clear, dn)
    untouched = (cloudy == clear).all(axis=0)
    assert 0.3 < untouched.mean() < 0.9
    assert clear[:, untouched].max() > 10000  # brighter than white, and kept
    with rasterio.open(pair.cloudy) as file:
        assert file.crs.to_epsg() == 32633
        assert file.transform == grid["transform"]


def test_a_crop_of_a_scene_keeps_its_place(tmp_path):
    folder, out = tmp_path / "clear", tmp_path / "out"
    folder.mkdir()
    rows = np.arange(60, dtype=np.uint16)[:, None] * 100 + np.arange(50, dtype=np.uint16)
    with rasterio.open(folder / "s.tif", "w", "GTiff", 50, 60, 1, dtype="uint16",
                       crs="EPSG:32633", transform=Affine(10, 0, 0, 0, -10, 600)) as file:  # fmt: skip
        file.write(rows[None])
    list(simulate_pairs(out, clear=folder, options=options(size=16)))
    with rasterio.open(read_pairs(out)[0].clear) as file:
        top = int(file.read(1)[0, 0])
        assert file.transform @ (0, 0) == ((top % 100) * 10, 600 - (top // 100) * 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "fog"}, "'fog' is unknown"),
        ({"bands": ("red", "purple")}, "'purple' is unknown"),
        ({"coverage": 2.0}, "outside 0 to 1"),
        ({"gsd": -1.0}, "positive number of metres"),
        ({"size": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        options(**changes)


def test_wrong_sources_are_named(tmp_path, clear_folder):
    with pytest.raises(UsageError, match="Give a folder of clear images or a number"):
        next(simulate_pairs(tmp_path / "x"))
    with pytest.raises(UncloudedError, match="There is no folder"):
        next(simulate_pairs(tmp_path / "x", clear=tmp_path / "absent"))
    with pytest.raises(UsageError, match="3 bands and 2 are named"):
        next(simulate_pairs(tmp_path / "x", clear=clear_folder, options=options(bands=("red", "nir"))))
    with pytest.raises(UsageError, match="no band 'swir1'"):
        next(simulate_pairs(tmp_path / "y", landscapes=1, options=options(bands=("swir1",))))


def test_the_command_reports_what_it_made(tmp_path):
    words = [str(tmp_path / "out"), "--landscapes", "2", "--size", "16", "--bands", "red,green,blue,nir", "--json"]
    for made in (2, 0):
        result = CliRunner().invoke(data_simulate, words)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["made"] == made
    assert read_pairs(tmp_path / "out")[0].read_clear().shape == (4, 16, 16)

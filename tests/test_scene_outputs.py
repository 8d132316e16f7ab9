"""What is written besides the pixels: maps on the scene's grid, tags that say what made it, the report."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

import unclouded
from restorer_double import RGB, Double, local, numbers
from scene_files import read, write_tif
from unclouded.models.store import shipped
from unclouded.sampling import Sampling
from unclouded.whole_scene import restore_scene


def test_extra_outputs_are_on_the_grid_in_scene_units(tmp_path: Path) -> None:
    pixels = np.maximum(numbers((3, 50, 60), "uint16"), 1)
    pixels[:, :4] = 0
    mask = np.zeros((1, 50, 60), np.uint8)
    mask[:, :30] = 1
    source = write_tif(tmp_path / "in.tif", pixels, nodata=0)
    report = restore_scene(
        source, tmp_path / "out.tif", model=Double(local), tile=32, overlap=8, value_range=(0, 1000),
        mask=write_tif(tmp_path / "mask.tif", mask), uncertainty_out=tmp_path / "u.tif",
        weights_out=tmp_path / "w.tif", mask_out=tmp_path / "m.tif", preview=tmp_path / "p.png",
    )  # fmt: skip
    spread, weight, made = (read(tmp_path / f"{n}.tif") for n in "uwm")
    assert np.isnan(spread[:, :4]).all()
    np.testing.assert_allclose(spread[:, 4:30], 10, rtol=1e-5)
    assert (spread[:, 30:] == 0).all()
    np.testing.assert_allclose(weight[:, 4:30], 0.25, rtol=1e-6)
    assert np.isnan(weight[:, 30:]).all()
    assert (made[0, :4] == 255).all()
    assert (made[0, 4:30] == 2).all()
    assert (made[0, 30:] == 0).all()
    with rasterio.open(source) as a, rasterio.open(tmp_path / "u.tif") as b:
        assert (a.crs, a.transform, a.shape) == (b.crs, b.transform, b.shape)
        assert b.descriptions == RGB.names
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == (60 * 2 + 8, 50)
    assert set(report.files) == {"output", "uncertainty-out", "weights-out", "mask-out", "preview"}


def test_the_file_says_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    source = write_tif(tmp_path / "in.tif", numbers((3, 20, 20), "uint8"))
    sampling = Sampling(sampler="dpm", steps=3, seed=5)
    restore_scene(source, tmp_path / "out.tif", model=Double(), sampling=sampling, mask_out=tmp_path / "m.tif",
                  tile=96)  # fmt: skip
    with rasterio.open(tmp_path / "out.tif") as file:
        tags = file.tags()
    assert tags["TIFFTAG_SOFTWARE"] == f"unclouded {unclouded.__version__}"
    said = {k.removeprefix("UNCLOUDED_"): v for k, v in tags.items() if k.startswith("UNCLOUDED_")}
    assert len(said.pop("MODEL_SHA256")) == 64
    assert said == {
        "VERSION": unclouded.__version__, "MODEL": "Double", "SAMPLER": "dpm", "STEPS": "3", "SEED": "5",
        "SPACING": "leading", "ETA": "0.0", "WEIGHT_FLOOR": "0.3", "WEIGHT_CEILING": "1.0",
        "SELF_ENSEMBLE": "1", "MARGIN": "0", "SCALES": "1", "SCALE_SHARE": "0.33", "TILE": "96", "SAMPLES": "1",
        "MASK": "none", "INPUT": "in.tif", "DATE": "1970-01-02",
    }  # fmt: skip
    assert "<Category>synthesised</Category>" in (tmp_path / "m.tif.aux.xml").read_text()


def test_the_hash_in_the_tags_is_that_of_the_models_file(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 20, 20), "uint8"))
    clear = write_tif(tmp_path / "mask.tif", np.zeros((1, 20, 20), np.uint8))
    restore_scene(source, tmp_path / "out.tif", model="base", mask=clear)
    with rasterio.open(tmp_path / "out.tif") as file:
        digest = hashlib.sha256(shipped()["base"].read_bytes()).hexdigest()
        assert file.tags()["UNCLOUDED_MODEL_SHA256"] == digest


def test_the_report_is_written_with_the_mask_in_it(tmp_path: Path) -> None:
    pixels = numbers((4, 70, 90), "uint16")
    mask = np.zeros((1, 70, 90), np.uint8)
    mask[:, 20:40, 30:60] = 1
    restore_scene(
        write_tif(tmp_path / "in.tif", pixels), tmp_path / "out.tif", model=Double(local), bands=[3, 2, 1],
        mask=write_tif(tmp_path / "mask.tif", mask), report=tmp_path / "r.html", uncertainty_out=tmp_path / "u.tif",
    )  # fmt: skip
    page = (tmp_path / "r.html").read_text()
    assert "Clouds removed from in.tif" in page
    assert "UNCLOUDED_MODEL_SHA256" in page
    assert not list(tmp_path.glob("m*.tif.aux.xml"))

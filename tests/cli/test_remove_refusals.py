"""Inputs, options and outputs that `unclouded remove` refuses: one message, an exit code, and no file more."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from scene_files import random_tif, truncated_tif


def text(path: Path) -> Path:
    path.write_text("no image", encoding="utf-8")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def half_png(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:9000])
    return path


def no_data(path: Path) -> Path:
    return black(path, "uint8", nodata=0)


def black(path: Path, dtype: str, **profile: Any) -> Path:
    random_tif(path, dtype=dtype, **profile)
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((3, 60, 80), dtype))
    return path


def palette(path: Path) -> Path:
    random_tif(path, 1, photometric="PALETTE")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (9, 9, 9, 255)})
    return path


BAD_INPUTS = [
    (lambda p: p, "does not exist", 1),
    (text, "is not an image", 1),
    (empty, "is empty", 1),
    (truncated_tif, "damaged or truncated", 1),
    (half_png, "damaged or truncated", 1),
    (no_data, "has no data", 1),
    (lambda p: black(p, "uint16"), "is black.*-a_nodata 0", 1),
    (lambda p: black(p, "float32"), "is black.*-a_nodata 0", 1),
    (palette, "gdal_translate -expand rgb", 1),
    (lambda p: random_tif(p, 2), r"wants 3 bands \(red, green, blue\).*has 2 bands.*--bands 1,2,2", 1),
    (lambda p: random_tif(p, 13, "uint16"), "has 13 bands.*--bands 1,2,3", 1),
    (lambda p: random_tif(p, 17), "17 bands, and at most 16", 1),
    (lambda p: random_tif(p, dtype="uint16"), "8-bit values.*--range 0,255", 1),
    (lambda p: random_tif(p, dtype="complex64"), "complex", 1),
    (lambda p: p.mkdir() or p, "no scenes in", 2),
]


@pytest.mark.parametrize(("make", "message", "code"), BAD_INPUTS)
def test_bad_inputs(remove: Any, tmp_path: Path, make: Any, message: str, code: int) -> None:
    source = make(tmp_path / "in.tif")
    got, out, err = remove(source, tmp_path / "out.tif")
    assert (got, out) == (code, "")
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ([source.name] if source.exists() else [])


BAD_OPTIONS = [
    (["--bands", "1,2"], "--bands gives 2", 2),
    (["--bands", "1,2,9"], "has no band 9", 2),
    (["--bands", "red"], "not a list of numbers", 2),
    (["--range", "5,5"], "is empty", 2),
    (["--range", "5"], "1 numbers, not 2", 2),
    (["--tile", "0"], "holds nothing", 2),
    (["--overlap", "256"], "cannot overlap", 2),
    (["--batch-size", "0"], "--batch-size 1", 2),
    (["--steps", "0"], "--steps 0 is not possible", 2),
    (["--samples", "0"], "--samples 0 is not possible", 2),
    (["--start", "0"], "--start 0 is not possible", 2),
    (["--sampler", "euler"], "--sampler euler", 2),
    (["--weight-floor", "2"], "--weight-floor 2", 2),
    (["--weight-tolerance", "0"], "--weight-tolerance 0", 2),
    (["--settle", "0"], "--settle 0", 2),
    (["--scales", "0"], "--scales 0", 2),
    (["--self-ensemble", "3"], "--self-ensemble 3", 2),
    (["--weights-out", "{}/w.tif", "--settle", "0.01"], "tiles take different steps", 2),
    (["--max-memory", "lots"], "2GB or 512MB", 2),
    (["--max-memory", "9MB"], "is too little", 1),
    (["--mask-dilate", "3"], "shape a mask file", 2),
    (["--resume"], "no unfinished run", 1),
    (["--mask", "missing.tif"], "does not exist", 1),
    (["--uncertainty-out", "{}/u.tif"], "One sample has no spread", 2),
    (["--weights-out", "{}/w.tif"], "no weight allocation", 1),
    (["--weights-step", "3"], "chooses what --weights-out writes", 2),
    (["--weights-out", "{}/w.tif", "--weights-step", "51"], "no step 51: sampling has the steps 1 to 50", 2),
    (["--weights-out", "{}/w.tif", "--weights-step", "0"], "no step 0", 2),
    (["--stretch", "2,98"], "is not understood", 2),
    (["--stretch", "p2-98", "--range", "0,9"], "--range and --stretch both say", 2),
    (["--weights-out", "{}/out.tif"], "are the same file", 2),
    (["--preview", "{}/p.tif"], "not named as a picture", 2),
    (["--preview", "{}/nowhere/p.png"], "does not exist. Make it", 1),
    (["--report", "{}/nowhere/r.html"], "does not exist. Make it", 1),
]


@pytest.mark.parametrize(("options", "message", "code"), BAD_OPTIONS)
def test_bad_options(remove: Any, tmp_path: Path, options: list[str], message: str, code: int) -> None:
    got, _, err = remove(random_tif(tmp_path / "in.tif"), tmp_path / "out.tif", *(o.format(tmp_path) for o in options))
    assert got == code
    assert message in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


def test_no_names(remove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random_tif(tmp_path / "in.tif")
    for output in (".", "", "/", ".."):
        for options in ([], ["--resume"], ["--stac"]):
            code, _, err = remove("in.tif", output, *options)
            assert code == 2
            assert "is a folder. Give OUTPUT the name of a file in it." in err
    code, _, err = remove("", tmp_path / "out.tif")
    assert code == 2
    assert "The name of the scene is empty." in err
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.docx", "Use .tif"), ("out.png", "cannot hold the grid"), ("no/out.tif", "does not exist")],
)
def test_outputs_that_cannot_be(remove: Any, tmp_path: Path, name: str, message: str) -> None:
    code, _, err = remove(random_tif(tmp_path / "in.tif"), tmp_path / name)
    assert code in (1, 2)
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]

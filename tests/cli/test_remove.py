"""`unclouded remove` from outside: what works, for scenes and for pictures of every kind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from scene_files import random_tif
from unclouded.cli.remove import remove as command
from unclouded.sampling import Sampling


def test_quality_names_the_sampling_and_steps_and_sampler_change_it(remove: Any, double: Any, tmp_path: Path) -> None:
    source, chosen = random_tif(tmp_path / "in.tif"), Sampling(sampler="unipc", steps=6, weight_floor=0.5)
    double.card = double.card.model_copy(update={"sampling": chosen})
    expected = {
        (): chosen,
        ("--quality", "fast"): Sampling(sampler="dpm", steps=3, weight_floor=0.5),
        ("--quality", "paper"): Sampling(sampler="ddim", steps=50, weight_floor=0.5),
        ("--quality", "paper", "--steps", 20, "--weight-floor", 0.3): Sampling(sampler="ddim", steps=20),
        ("--quality", "paper", "--weight-tolerance", 0.1): Sampling(steps=50, weight_floor=0.5, weight_tolerance=0.1),
    }
    for options, sampling in expected.items():
        assert remove(source, tmp_path / "out.tif", "--overwrite", *options)[0] == 0
        assert double.sampling == sampling


def test_a_scene_comes_out_and_json_says_what_was_done(remove: Any, double: Any, tmp_path: Path) -> None:
    source = random_tif(tmp_path / "in.tif", 4)
    options = ("--bands", "3,2,1", "--tile", 32, "--overlap", 8, "--steps", 7, "--sampler", "dpm")
    code, out, err = remove(source, tmp_path / "out.tif", *options, "--json")
    assert code == 0
    assert err == ""
    report = json.loads(out)
    assert report["bands"] == {"red": 3, "green": 2, "blue": 1}
    assert report["passed_through"] == [4]
    assert report["model"] == "double"
    assert report["sampling"]["steps"] == 7
    assert double.sampling == Sampling(steps=7, sampler="dpm", tile=32)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        np.testing.assert_array_equal(b.read((1, 2, 3)), 255 - a.read((1, 2, 3)))
        np.testing.assert_array_equal(b.read(4), a.read(4))


def test_without_json_stdout_is_empty(remove: Any, tmp_path: Path) -> None:
    code, out, err = remove(random_tif(tmp_path / "in.tif"), tmp_path / "out.tif")
    assert (code, out) == (0, "")
    assert "100.0 % of 4800 pixels synthesised" in err


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_stay_pictures(remove: Any, tmp_path: Path, kind: str, mode: str) -> None:
    if (kind, mode) == ("jpg", "RGBA"):
        pytest.skip("JPEG has no alpha")
    pixels = np.random.default_rng(0).integers(0, 255, (37, 41, len(mode)), np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = np.where(np.arange(41) < 20, 255, 0)
    lossless = {"lossless": True, "exact": True} if kind == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"in.{kind}", icc_profile=b"profile", **lossless)
    code, _, err = remove(tmp_path / f"in.{kind}", tmp_path / f"out.{kind}")
    assert code == 0, err
    with Image.open(tmp_path / f"out.{kind}") as after, Image.open(tmp_path / f"in.{kind}") as before:
        assert (after.format, after.mode, after.size) == (before.format, before.mode, before.size)
        assert after.info["icc_profile"] == b"profile"
        a, b = np.asarray(before).astype(int), np.asarray(after).astype(int)
    seen = a[..., :3][:, :20] if mode == "RGBA" else a[..., :3]
    if kind == "jpg":
        assert np.abs(255 - seen - b).mean() < 8
        return
    np.testing.assert_array_equal(b[:, : seen.shape[1], :3], 255 - seen)
    if mode == "RGBA":
        np.testing.assert_array_equal(b[:, 20:], a[:, 20:])
        np.testing.assert_array_equal(b[..., 3], a[..., 3])


def test_palettes_grey_and_deep_pictures(remove: Any, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).quantize(16).save(
        tmp_path / "p.png"
    )
    assert remove(tmp_path / "p.png", tmp_path / "p_out.png")[0] == 0
    Image.fromarray(np.full((20, 30), 55, np.uint8)).save(tmp_path / "g.png")
    assert remove(tmp_path / "g.png", tmp_path / "g_out.png", "--bands", "1,1,1")[0] == 0
    with Image.open(tmp_path / "g_out.png") as grey:
        assert (grey.mode, grey.getpixel((0, 0))) == ("L", 200)
    deep = np.random.default_rng(0).integers(0, 65535, (3, 20, 30)).astype(np.uint16)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(
        tmp_path / "d.png", "w", driver="PNG", count=3, height=20, width=30, dtype="uint16"
    ) as file:  # fmt: skip
        file.write(deep)
    assert remove(tmp_path / "d.png", tmp_path / "d_out.png")[0] == 0
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "d_out.png") as file:
        np.testing.assert_array_equal(file.read(), 65535 - deep)


def test_help_does_not_import_torch() -> None:
    code = "import sys; from unclouded.cli import cli; cli.main(['remove', '--help'], standalone_mode=False); "
    code += "assert 'torch' not in sys.modules and 'rasterio' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--mask" in done.stdout


def test_addresses_stay_as_they_are_given() -> None:
    """A path would lose a slash."""
    given = ["https://a.org/in.tif", "out.tif", "--date", "https://a.org/1.tif", "--date", "s3://b/2.tif"]
    given += ["--sar", "https://a.org/s1.tif?sig=x", "--mask", "https://a.org/scl.tif"]
    found = command.make_context("remove", given).params
    assert found["input"] == "https://a.org/in.tif"
    assert found["dates"] == ("https://a.org/1.tif", "s3://b/2.tif")
    assert (found["sar"], found["mask"]) == ("https://a.org/s1.tif?sig=x", "https://a.org/scl.tif")


def test_a_dry_run_prints_the_plan(remove: Any, tmp_path: Path) -> None:
    source = random_tif(tmp_path / "in.tif")
    code, out, err = remove(source, tmp_path / "out.tif", "--dry-run", "--json", "--tile", 32, "--overlap", 8)
    assert (code, err) == (0, "")
    assert json.loads(out)["tiles"] == 9
    code, out, _ = remove(source, tmp_path / "out.tif", "--dry-run")
    assert code == 0
    assert "band         red is 1, from 0 to 255" in out
    assert "s for all tiles" in out
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]

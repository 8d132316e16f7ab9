"""`unclouded remove` from outside: what works, and that everything wrong is one message, an exit code, and no loss."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import Affine
from torch import Tensor

import unclouded.restore
from unclouded.cli import main
from unclouded.models.card import ModelCard
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet

RGB = BandSet.display("red", "green", "blue")


class Answer(NamedTuple):
    clear: Tensor
    w: Tensor | None = None
    spread: Tensor | None = None


class Double:
    """A model that inverts the picture, with a card."""

    bands = RGB
    card = ModelCard(name="double", method="double", architecture={}, bands=RGB)
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.sampling: Sampling | None = None
        self.on_batch = lambda: None

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: Sampling | None = None) -> Answer:
        self.sampling = sampling
        self.on_batch()
        return Answer(1 - y)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    model = Double()
    monkeypatch.setattr(unclouded.restore, "load", lambda name, **options: model)
    return model


@pytest.fixture
def run(double: Double, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `unclouded remove …` in this process -> (exit code, stdout, stderr)."""

    def call(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["remove", *map(str, args)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(stop.value.code or 0), out, err

    return call


def tif(path: Path, bands: int = 3, dtype: str = "uint8", size: tuple[int, int] = (60, 80), **profile: Any) -> Path:
    pixels = np.random.default_rng(0).integers(1, 255, (bands, *size)).astype(dtype)
    options = {
        "driver": "GTiff", "count": bands, "height": size[0], "width": size[1], "dtype": dtype, "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500000, 0, -10, 4600000), "photometric": "MINISBLACK",
    }  # fmt: skip
    with rasterio.open(path, "w", **{**options, **profile}) as file:
        file.write(pixels)
    return path


def test_quality_names_the_sampling_and_steps_and_sampler_change_it(run: Any, double: Double, tmp_path: Path) -> None:
    source, chosen = tif(tmp_path / "in.tif"), Sampling(sampler="unipc", steps=6, weight_floor=0.5)
    double.card = Double.card.model_copy(update={"sampling": chosen})
    expected = {
        (): chosen,
        ("--quality", "fast"): Sampling(sampler="dpm", steps=3, weight_floor=0.5),
        ("--quality", "paper"): Sampling(sampler="ddim", steps=50, weight_floor=0.3),
        ("--quality", "paper", "--steps", 20, "--start", 800): Sampling(sampler="ddim", steps=20, start=800),
    }
    for options, sampling in expected.items():
        assert run(source, tmp_path / "out.tif", "--overwrite", *options)[0] == 0
        assert double.sampling == sampling


def test_a_scene_comes_out_and_json_says_what_was_done(run: Any, double: Double, tmp_path: Path) -> None:
    source = tif(tmp_path / "in.tif", 4)
    options = ("--bands", "3,2,1", "--tile", 32, "--overlap", 8, "--steps", 7, "--sampler", "dpm")
    code, out, err = run(source, tmp_path / "out.tif", *options, "--json")
    assert code == 0
    assert err == ""
    report = json.loads(out)
    assert report["bands"] == {"red": 3, "green": 2, "blue": 1}
    assert report["passed_through"] == [4]
    assert report["model"] == "double"
    assert report["sampling"]["steps"] == 7
    assert double.sampling == Sampling(steps=7, sampler="dpm")
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        np.testing.assert_array_equal(b.read((1, 2, 3)), 255 - a.read((1, 2, 3)))
        np.testing.assert_array_equal(b.read(4), a.read(4))


def test_without_json_stdout_is_empty(run: Any, tmp_path: Path) -> None:
    code, out, err = run(tif(tmp_path / "in.tif"), tmp_path / "out.tif")
    assert (code, out) == (0, "")
    assert "100.0 % of 4800 pixels synthesised" in err


@pytest.mark.parametrize("kind", ["png", "webp", "jpg"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_stay_pictures(run: Any, tmp_path: Path, kind: str, mode: str) -> None:
    if (kind, mode) == ("jpg", "RGBA"):
        pytest.skip("JPEG has no alpha")
    pixels = np.random.default_rng(0).integers(0, 255, (37, 41, len(mode)), np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = np.where(np.arange(41) < 20, 255, 0)
    lossless = {"lossless": True, "exact": True} if kind == "webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"in.{kind}", icc_profile=b"profile", **lossless)
    code, _, err = run(tmp_path / f"in.{kind}", tmp_path / f"out.{kind}")
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


def test_palettes_grey_and_deep_pictures(run: Any, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).quantize(16).save(
        tmp_path / "p.png"
    )
    assert run(tmp_path / "p.png", tmp_path / "p_out.png")[0] == 0
    Image.fromarray(np.full((20, 30), 55, np.uint8)).save(tmp_path / "g.png")
    assert run(tmp_path / "g.png", tmp_path / "g_out.png", "--bands", "1,1,1")[0] == 0
    with Image.open(tmp_path / "g_out.png") as grey:
        assert (grey.mode, grey.getpixel((0, 0))) == ("L", 200)
    deep = np.random.default_rng(0).integers(0, 65535, (3, 20, 30)).astype(np.uint16)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(
        tmp_path / "d.png", "w", driver="PNG", count=3, height=20, width=30, dtype="uint16"
    ) as file:  # fmt: skip
        file.write(deep)
    assert run(tmp_path / "d.png", tmp_path / "d_out.png")[0] == 0
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(tmp_path / "d_out.png") as file:
        np.testing.assert_array_equal(file.read(), 65535 - deep)


def truncated(path: Path) -> Path:
    whole = tif(path, size=(400, 400)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def text(path: Path) -> Path:
    path.write_text("no image")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def half_png(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:9000])
    return path


def no_data(path: Path) -> Path:
    tif(path, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((3, 60, 80), np.uint8))
    return path


def palette(path: Path) -> Path:
    tif(path, 1, photometric="PALETTE")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (9, 9, 9, 255)})
    return path


BAD_INPUTS = [
    (lambda p: p, "does not exist", 1),
    (text, "is not an image", 1),
    (empty, "is empty", 1),
    (truncated, "damaged or truncated", 1),
    (half_png, "damaged or truncated", 1),
    (no_data, "has no data", 1),
    (palette, "gdal_translate -expand rgb", 1),
    (lambda p: tif(p, 2), r"wants 3 bands \(red, green, blue\).*has 2 bands.*--bands 1,2,2", 1),
    (lambda p: tif(p, 13, "uint16"), "has 13 bands.*--bands 1,2,3", 1),
    (lambda p: tif(p, 17), "17 bands, and at most 16", 1),
    (lambda p: tif(p, dtype="uint16"), "8-bit values.*--range 0,255", 1),
    (lambda p: tif(p, dtype="complex64"), "complex", 1),
    (lambda p: p.mkdir() or p, "no scenes in", 2),
]


@pytest.mark.parametrize(("make", "message", "code"), BAD_INPUTS)
def test_bad_inputs(run: Any, tmp_path: Path, make: Any, message: str, code: int) -> None:
    import re

    source = make(tmp_path / "in.tif")
    got, out, err = run(source, tmp_path / "out.tif")
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
    (["--settle", "0"], "--settle 0", 2),
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
def test_bad_options(run: Any, tmp_path: Path, options: list[str], message: str, code: int) -> None:
    got, _, err = run(tif(tmp_path / "in.tif"), tmp_path / "out.tif", *(o.format(tmp_path) for o in options))
    assert got == code
    assert message in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


def test_nothing_is_replaced_unasked(run: Any, tmp_path: Path) -> None:
    source, target = tif(tmp_path / "in.tif"), tmp_path / "out.tif"
    target.write_text("precious")
    code, _, err = run(source, target)
    assert (code, target.read_text()) == (1, "precious")
    assert "--overwrite" in err
    assert run(source, target, "--overwrite")[0] == 0
    before = source.read_bytes()
    (tmp_path / "link.tif").symlink_to(source)
    for same in (source, tmp_path / "." / "in.tif", tmp_path / "link.tif"):
        code, _, err = run(source, same, "--overwrite")
        assert code == 2
        assert "are the same file" in err
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.docx", "Use .tif"), ("out.png", "cannot hold the grid"), ("no/out.tif", "does not exist")],
)
def test_outputs_that_cannot_be(run: Any, tmp_path: Path, name: str, message: str) -> None:
    code, _, err = run(tif(tmp_path / "in.tif"), tmp_path / name)
    assert code in (1, 2)
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


def test_a_failed_overwrite_keeps_the_old_result(run: Any, double: Double, tmp_path: Path) -> None:
    target = tif(tmp_path / "out.tif")
    before = target.read_bytes()
    code, _, err = run(truncated(tmp_path / "in.tif"), target, "--overwrite")
    assert code == 1, err
    assert target.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="needs folder permissions")
def test_an_unwritable_folder(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = tif(tmp_path / "in.tif"), tmp_path / "locked"
    folder.mkdir()
    real = Path.mkdir

    def mkdir(
        self: Path, *args: Any, **options: Any
    ) -> None:  # root may write everywhere, so permissions are acted out
        if self.parent == folder:
            raise PermissionError(13, "Permission denied")
        real(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    code, _, err = run(source, folder / "out.tif")
    assert code == 1
    assert "may not be written" in err


def test_a_full_disk_while_restoring(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tif(tmp_path / "in.tif", size=(100, 80)), tmp_path / "out.tif"
    options = ("--tile", 32, "--overlap", 8)
    calls = []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) == 7:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        code, _, err = run(source, target, *options)
    assert code == 1
    assert "disk became full" in err
    assert "--resume" in err
    assert not target.exists()
    assert run(source, target, *options, "--resume")[0] == 0
    assert run(source, tmp_path / "at_once.tif", *options)[0] == 0
    assert target.read_bytes() == (tmp_path / "at_once.tif").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at_once.tif", "in.tif", "out.tif"]


def test_ctrl_c_leaves_nothing_under_the_final_name(run: Any, double: Double, tmp_path: Path) -> None:
    source, target = tif(tmp_path / "in.tif", size=(100, 80)), tmp_path / "out.tif"
    batches = []

    def interrupt() -> None:
        batches.append(1)
        if len(batches) == 5:
            signal.raise_signal(signal.SIGINT)

    double.on_batch = interrupt
    options = ("--tile", 32, "--overlap", 8, "--batch-size", 2)
    code, out, err = run(source, target, *options)
    assert (code, out) == (130, "")
    assert "--resume goes on" in err
    assert "Interrupted" in err
    assert not target.exists()
    assert threading.active_count() == 1
    double.on_batch = lambda: None
    assert run(source, target, *options, "--steps", 9, "--resume")[2].startswith(
        "Error: The unfinished run had sampling"
    )
    assert run(source, target, *options, "--resume")[0] == 0
    with rasterio.open(source) as a, rasterio.open(target) as b:
        np.testing.assert_array_equal(b.read(), 255 - a.read())


def test_help_does_not_import_torch() -> None:
    code = "import sys; from unclouded.cli import cli; cli.main(['remove', '--help'], standalone_mode=False); "
    code += "assert 'torch' not in sys.modules and 'rasterio' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--mask" in done.stdout


def test_a_dry_run_prints_the_plan(run: Any, tmp_path: Path) -> None:
    source = tif(tmp_path / "in.tif")
    code, out, err = run(source, tmp_path / "out.tif", "--dry-run", "--json", "--tile", 32, "--overlap", 8)
    assert (code, err) == (0, "")
    assert json.loads(out)["tiles"] == 9
    code, out, _ = run(source, tmp_path / "out.tif", "--dry-run")
    assert code == 0
    assert "passed through" in out
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


def test_a_folder_of_scenes(run: Any, double: Double, tmp_path: Path) -> None:
    scenes, results = tmp_path / "scenes", tmp_path / "results"
    scenes.mkdir()
    for name in ("a.tif", "c.tif"):
        tif(scenes / name)
    text(scenes / "b.tif")
    (scenes / "notes.md").write_text("no scene")
    code, out, err = run(scenes, results, "--json")
    assert code == 1
    assert [(Path(o["input"]).name, o["status"]) for o in json.loads(out)] == [
        ("a.tif", "done"), ("b.tif", "failed"), ("c.tif", "done"),
    ]  # fmt: skip
    assert "1 of 3 scenes failed" in err
    assert sorted(p.name for p in results.iterdir()) == ["a.tif", "c.tif", "unclouded-manifest.json"]
    tif(scenes / "b.tif")
    batches: list[int] = []
    double.on_batch = lambda: batches.append(1)
    code, _, err = run(scenes, results, "--resume")
    assert (code, len(batches)) == (0, 1)
    assert err.count("done") == 3


def test_patterns_and_lists(run: Any, tmp_path: Path) -> None:
    tif(tmp_path / "x1.tif"), tif(tmp_path / "x2.tif"), tif(tmp_path / "y.tif")
    assert run(tmp_path / "x*.tif", tmp_path / "by_pattern")[0] == 0
    (tmp_path / "list.txt").write_text("# mine\ny.tif\nx2.tif\n")
    assert run(tmp_path / "list.txt", tmp_path / "by_list")[0] == 0
    assert sorted(p.name for p in (tmp_path / "by_pattern").glob("*.tif")) == ["x1.tif", "x2.tif"]
    assert sorted(p.name for p in (tmp_path / "by_list").glob("*.tif")) == ["x2.tif", "y.tif"]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("none*.tif", [], "does not exist|no scenes"),
        ("x*.tif", ["--preview", "p.png"], "--preview is for one scene"),
        ("x*.tif", ["--dry-run"], "--dry-run is for one scene"),
        ("twice.txt", [], "Several scenes would be written as x1.tif"),
    ],
)
def test_groups_that_cannot_be(run: Any, tmp_path: Path, given: str, options: list[str], message: str) -> None:
    import re

    tif(tmp_path / "x1.tif")
    (tmp_path / "twice.txt").write_text("x1.tif\nx1.tif\n")
    code, _, err = run(tmp_path / given, tmp_path / "out", *options)
    assert code == 2
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()

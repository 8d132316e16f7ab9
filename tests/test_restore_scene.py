"""Whole scenes through model doubles: what is kept, what is replaced, and that the tiling does not show."""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from torch import Tensor

import unclouded
from unclouded.errors import UncloudedError
from unclouded.models.store import shipped
from unclouded.restore_scene import restore_array, restore_scene
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet

RGB = BandSet.display("red", "green", "blue")
GRID = ("crs", "transform", "shape")
BANDS = ("dtypes", "nodata", "descriptions", "colorinterp", "scales", "offsets", "units")
LAYOUT = ("block_shapes", "compression", "interleaving")
DTYPES = ["uint8", "uint16", "int16", "float32", "float64"]


class Answer(NamedTuple):
    clear: Tensor
    w: Tensor | None = None
    spread: Tensor | None = None


class Double:
    """A restorer that applies a function to y; it remembers the batches that it saw."""

    def __init__(self, function: Callable[[Tensor], Tensor] = lambda y: y, bands: BandSet = RGB) -> None:
        self.function = function
        self.bands = bands
        self.origins: list[tuple[int, int]] = []

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Answer:
        assert y.dtype == torch.float32
        assert y.shape[1] == len(self.bands)
        assert float(y.min()) >= 0
        assert float(y.max()) <= 1
        self.origins += origins
        clear = self.function(y)
        return Answer(clear, torch.full_like(y, 0.25), torch.full_like(y, 0.01))


def local(y: Tensor) -> Tensor:
    """A model whose answer at a pixel depends on that pixel alone."""
    return 1 - y**2


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.uniform(-0.05, 1.2, shape).astype(dtype)
    low, high = (0, 255) if dtype == "uint8" else (0, 14000) if dtype == "uint16" else (-300, 14000)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


def write_tif(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    options = {
        "driver": "GTiff",
        "count": len(pixels),
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype.name,
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 500000, 0, -10, 4600000),
    }
    with rasterio.open(path, "w", **{**options, **profile}) as file:
        file.write(pixels)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("height", "width"), [(101, 203), (1, 77), (60, 1), (64, 64)])
def test_an_identity_model_returns_the_bits(tmp_path: Path, dtype: str, height: int, width: int) -> None:
    pixels = numbers((3, height, width), dtype)
    source = write_tif(tmp_path / "in.tif", pixels)
    report = restore_scene(source, tmp_path / "out.tif", model=Double(), tile=32, overlap=8)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), pixels)
    assert report.pixels == {"input": 0, "blended": 0, "synthesised": height * width, "nodata": 0}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_model_gives_that_constant(tmp_path: Path, dtype: str) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 90, 70), dtype))
    restore_scene(
        source, tmp_path / "out.tif", model=Double(lambda y: torch.full_like(y, 0.25)), tile=32, overlap=9,
        value_range=(0, 200),
    )  # fmt: skip
    assert (read(tmp_path / "out.tif") == 50).all()


def test_grid_batch_and_overlap_do_not_change_a_local_model(tmp_path: Path) -> None:
    pixels = numbers((3, 120, 95), "float32")
    source = write_tif(tmp_path / "in.tif", pixels)
    whole = restore_scene(source, tmp_path / "a.tif", model=Double(local), tile=256, overlap=64)
    assert whole.tiles == 1
    for name, tile, overlap, batch in [("b", 32, 8, 1), ("c", 50, 41, 7), ("d", 17, 0, 3)]:
        restore_scene(
            source, tmp_path / f"{name}.tif", model=Double(local), tile=tile, overlap=overlap, batch_size=batch
        )
        np.testing.assert_allclose(read(tmp_path / f"{name}.tif"), read(tmp_path / "a.tif"), atol=1e-6)


def test_tiles_know_where_they_are(tmp_path: Path) -> None:
    double = Double()
    restore_scene(write_tif(tmp_path / "in.tif", numbers((3, 50, 70), "uint8")), tmp_path / "o.tif", model=double,
                  tile=32, overlap=8)  # fmt: skip
    assert sorted(double.origins) == [(r, c) for r in (0, 18) for c in (0, 24, 38)]


def test_everything_but_the_pixels_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    pixels = numbers((4, 40, 30), "int16")
    rotated = Affine(9.4, 3.4, 300000, 3.4, -9.4, 5000000)
    profile = {"transform": rotated, "nodata": -999, "tiled": True, "blockxsize": 16, "blockysize": 16}
    write_tif(source, pixels, **profile, compress="lzw", interleave="band")
    with rasterio.open(source, "r+") as file:
        file.descriptions = ("blue", "green", "red", "nir")
        file.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
        file.scales, file.offsets = (1e-4,) * 4, (0.01,) * 4
        file.set_band_unit(2, "reflectance")
        file.update_tags(SENSOR="MSI", AREA_OR_POINT="Point")
        file.update_tags(ns="ACQUISITION", DATE="2024-05-01")
        file.update_tags(4, STATISTICS_MEAN="7", WAVELENGTH="842")
        file.update_tags(1, STATISTICS_MEAN="8", WAVELENGTH="490")
    report = restore_scene(source, tmp_path / "out.tif", model=Double(local), tile=16, overlap=4)
    assert report.bands == {"red": 3, "green": 2, "blue": 1}
    assert report.passed_through == (4,)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        for name in GRID + BANDS + LAYOUT:
            assert getattr(a, name) == getattr(b, name), name
        assert a.tags().items() <= b.tags().items()
        assert b.tags(ns="ACQUISITION") == {"DATE": "2024-05-01"}
        assert b.tags(4) == {"STATISTICS_MEAN": "7", "WAVELENGTH": "842"}
        assert b.tags(1) == {"WAVELENGTH": "490"}
        np.testing.assert_array_equal(b.read(4), pixels[3])
        assert (b.read(1) != pixels[0]).any()


def test_control_points_and_rpcs_pass_through(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    points = [GroundControlPoint(r, c, 10 + c / 10, 50 - r / 10) for r, c in [(0, 0), (0, 40), (40, 0), (40, 40)]]
    write_tif(source, numbers((3, 40, 40), "uint8"), crs="EPSG:4326", transform=None, gcps=points)
    restore_scene(source, tmp_path / "out.tif", model=Double(local))
    with rasterio.open(tmp_path / "out.tif") as file:
        out, crs = file.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in out] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nodata_stays_and_valid_pixels_never_become_it(tmp_path: Path, dtype: str) -> None:
    pixels = numbers((3, 50, 40), dtype)
    pixels[:, 10:20, 5:30] = 7
    pixels[1, 30, 30] = 7  # in one band only
    source = write_tif(tmp_path / "in.tif", pixels, nodata=7)
    report = restore_scene(source, tmp_path / "out.tif", model=Double(lambda y: torch.full_like(y, 0.5)),
                           value_range=(0, 14), tile=16, overlap=4)  # fmt: skip
    out = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(out == 7, pixels == 7)
    assert report.pixels["nodata"] == (pixels == 7).all(axis=0).sum()


def test_nan_and_infinity_are_nodata(tmp_path: Path) -> None:
    pixels = numbers((3, 30, 40), "float32")
    pixels[:, :5] = np.nan
    pixels[0, 10, 10], pixels[2, 11, 11] = np.inf, -np.inf
    source = write_tif(tmp_path / "in.tif", pixels)
    restore_scene(source, tmp_path / "out.tif", model=Double(lambda y: torch.full_like(y, 0.5)))
    out = read(tmp_path / "out.tif")
    bad = ~np.isfinite(pixels)
    np.testing.assert_array_equal(out[bad], pixels[bad])
    assert np.isfinite(out[~bad]).all()
    assert (out[~bad] != pixels[~bad]).all()


def test_an_internal_mask_is_kept_and_respected(tmp_path: Path) -> None:
    pixels = numbers((3, 40, 50), "uint8")
    where = np.ones((40, 50), bool)
    where[:, 30:] = False
    source = tmp_path / "in.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tif(source, pixels)
        with rasterio.open(source, "r+") as file:
            file.write_mask(where)
    report = restore_scene(source, tmp_path / "out.tif", model=Double(local), tile=16, overlap=4)
    out = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(out[:, :, 30:], pixels[:, :, 30:])
    assert report.pixels["nodata"] == 40 * 20
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.dataset_mask() > 0, where)


def test_one_band_can_feed_every_channel(tmp_path: Path) -> None:
    pixels = numbers((1, 40, 30), "uint16")
    source = write_tif(tmp_path / "in.tif", pixels)
    restore_scene(source, tmp_path / "a.tif", model=Double(), bands=[1, 1, 1])
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)
    restore_scene(
        source, tmp_path / "b.tif", model=Double(lambda y: y * 0 + 0.5), bands=[1, 1, 1], value_range=(0, 100)
    )
    assert (read(tmp_path / "b.tif") == 50).all()


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


CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …")


class Small(Double):
    """Has room for `most` tiles at a time."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__(local)
        self.most, self.error, self.batches = most, error, [0]

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Answer:
        self.batches.append(len(y))
        if len(y) > self.most:
            raise self.error
        return super().restore(y, origins, sampling)


@pytest.mark.parametrize("error", [CPU_ERROR, MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, error: Exception) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 104, 272), "uint8"))  # 11 tiles a row
    options = {"tile": 32, "overlap": 8, "batch_size": 8, "overwrite": True}
    assert restore_scene(source, tmp_path / "all.tif", model=Double(local), **options).notes == (
        "Every pixel that has data was synthesised.",
    )
    small = Small(3, error)
    report = restore_scene(source, tmp_path / "out.tif", model=small, **options)
    assert small.batches[:4] == [0, 8, 4, 2]
    assert max(small.batches[4:]) == 2
    assert [note for note in report.notes if "Memory" in note] == [
        "Memory ran out: the run went on with 2 instead of 8 tiles at a time."
    ]
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), read(tmp_path / "all.tif"))


def test_a_tile_too_much_for_memory_and_other_errors_end_the_run(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 50, 60), "uint8"))
    for error, raised, message in (
        (CPU_ERROR, UncloudedError, "smaller --tile"),
        (RuntimeError("a kernel broke"), RuntimeError, "a kernel broke"),
    ):
        with pytest.raises(raised, match=message):
            restore_scene(source, tmp_path / "out.tif", model=Small(0, error), tile=32, overlap=8)
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


def test_only_tiles_whose_core_has_cloud_are_restored(tmp_path: Path) -> None:
    pixels = np.maximum(numbers((3, 104, 104), "uint8"), 1)  # tiles of 32 at 0, 24, 48, 72; cores meet at 28, 52, 76
    source = write_tif(tmp_path / "in.tif", pixels)
    double, mask = Double(local), np.zeros((1, 104, 104), np.uint8)
    for cloud, tiles in (
        ((slice(0, 0), slice(0, 0)), []),
        ((slice(30, 50), slice(29, 52)), [(24, 24)]),
        ((slice(50, 54), slice(100, 104)), [(24, 72), (48, 72)]),
    ):
        mask[:], double.origins = 0, []
        mask[0][cloud] = 1
        restore_scene(source, tmp_path / "out.tif", model=double, tile=32, overlap=8, overwrite=True,
                      mask=write_tif(tmp_path / "mask.tif", mask))  # fmt: skip
        assert double.origins == tiles
        expected = np.where(mask, np.rint(255 * (1 - (pixels / 255) ** 2)), pixels)
        assert np.abs(read(tmp_path / "out.tif").astype(int) - expected).max() <= 1


def test_arrays_of_any_size_and_dtype() -> None:
    for dtype in DTYPES:
        image = numbers((3, 37, 301), dtype)
        np.testing.assert_array_equal(restore_array(image, Double()), image)
    floats = np.random.default_rng(0).random((3, 300, 40), np.float32)
    np.testing.assert_allclose(restore_array(floats, Double(local)), 1 - floats**2, atol=1e-6)
    assert (restore_array(np.zeros((3, 5, 5), np.uint8), Double(local)) == 255).all()


def test_a_model_that_answers_nonsense_is_stopped(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 50, 60), "uint8"))
    with pytest.raises(UncloudedError, match="not finite"):
        restore_scene(source, tmp_path / "out.tif", model=Double(lambda y: y * torch.nan))
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize("mask", ["none", "auto", "file"])
def test_panels_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str) -> None:
    """A scene cut into panels of columns gives what a scene in one panel gives, in every layer."""
    monkeypatch.setattr("unclouded.scenes.auto_mask.THRESHOLD", 0.4)
    pixels = np.random.default_rng(0).uniform(0.05, 0.35, (3, 90, 201)).astype(np.float32)
    source = write_tif(tmp_path / "in.tif", pixels)
    if mask == "file":
        where = (np.random.default_rng(1).random((1, 90, 201)) < 0.01).astype(np.uint8)
        mask = str(write_tif(tmp_path / "mask.tif", where))
    results = []
    for limit in (10**6, 70):
        seen: list[tuple[int, int]] = []
        restore_scene(
            source, tmp_path / "o.tif", model=Double(local), tile=32, overlap=8, mask=mask, overwrite=True,
            mask_out=tmp_path / "m.tif", uncertainty_out=tmp_path / "u.tif", panel_width=limit,
            progress=lambda done, total, seen=seen: seen.append((done, total)),
        )  # fmt: skip
        assert seen[0][0] == 0
        assert seen[-1][0] == seen[-1][1]
        results.append([read(tmp_path / f"{name}.tif") for name in "omu"])
    assert 0 < (results[0][1] == 2).mean() <= 1
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("side", "levels"), [(700, 1), (90, 0)])
def test_a_cloud_optimised_geotiff_is_valid(tmp_path: Path, side: int, levels: int) -> None:
    from rio_cogeo.cogeo import cog_validate

    pixels = numbers((4, side, side), "uint16")
    source = write_tif(tmp_path / "in.tif", pixels, nodata=0)
    with rasterio.open(source, "r+") as file:
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        file.descriptions = ("red", "green", "blue", "nir")
        file.scales, file.offsets = (1e-4,) * 4, (0.0,) * 4
    restore_scene(source, tmp_path / "o.tif", model=Double(), cog=True, mask_out=tmp_path / "m.tif")
    for name in "om":
        assert cog_validate(tmp_path / f"{name}.tif", quiet=True) == (True, [], [])
    with rasterio.open(source) as a, rasterio.open(tmp_path / "o.tif") as b:
        for name in GRID + BANDS:
            assert getattr(a, name) == getattr(b, name), name
        np.testing.assert_array_equal(b.read(), pixels)
        assert len(b.overviews(1)) == levels
        assert b.tags()["UNCLOUDED_MODEL"] == "Double"


def test_the_file_says_what_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    source = write_tif(tmp_path / "in.tif", numbers((3, 20, 20), "uint8"))
    sampling = Sampling(sampler="dpm", steps=3, seed=5)
    restore_scene(source, tmp_path / "out.tif", model=Double(), sampling=sampling, mask_out=tmp_path / "m.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        tags = file.tags()
    assert tags["TIFFTAG_SOFTWARE"] == f"unclouded {unclouded.__version__}"
    said = {k.removeprefix("UNCLOUDED_"): v for k, v in tags.items() if k.startswith("UNCLOUDED_")}
    assert len(said.pop("MODEL_SHA256")) == 64
    assert said == {
        "VERSION": unclouded.__version__, "MODEL": "Double", "SAMPLER": "dpm", "STEPS": "3", "SEED": "5",
        "SPACING": "leading",
        "ETA": "0.0", "WEIGHT_FLOOR": "0.3", "SAMPLES": "1", "MASK": "none", "INPUT": "in.tif", "DATE": "1970-01-02",
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


class Elsewhere(Double):
    """A restorer on the processor, so that two batches may be in work at a time; the first of two takes longer."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__(local)
        self.inside, self.most, self.threads = 0, 0, set[int]()
        self.lock = threading.Lock()

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Answer:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(torch.get_num_threads())
        time.sleep(0.02 if origins[0][1] == 0 else 0.002)
        answer = super().restore(y, origins, sampling)
        with self.lock:
            self.inside -= 1
        return answer


def test_two_batches_at_a_time_give_the_bits_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_tif(tmp_path / "in.tif", numbers((3, 104, 272), "float32"))
    results = []
    for threads, most in ((1, 1), (2, 2), (5, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        given: list[int] = []
        monkeypatch.setattr(torch, "set_num_threads", given.append)
        double = Elsewhere()
        restore_scene(source, tmp_path / "out.tif", model=double, tile=32, overlap=8, batch_size=3, overwrite=True,
                      uncertainty_out=tmp_path / "u.tif", weights_out=tmp_path / "w.tif")  # fmt: skip
        assert double.most == most
        assert given == ([1] if most == 1 else [threads // 2, threads])
        results.append([(tmp_path / f"{name}.tif").read_bytes() for name in ("out", "u", "w")])
    assert results[0] == results[1] == results[2]


def test_an_error_in_one_of_two_batches_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    source, double = write_tif(tmp_path / "in.tif", numbers((3, 104, 272), "uint8")), Elsewhere()
    double.function = lambda y: y * torch.nan
    with pytest.raises(UncloudedError, match="not finite"):
        restore_scene(source, tmp_path / "out.tif", model=double, tile=32, overlap=8)
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]

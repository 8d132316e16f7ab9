"""Percentiles by counting are those of the whole scene at once, and the stretch is one choice among three."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes import stretch
from unclouded.scenes.bands import BandSet
from unclouded.scenes.opening import open_scene
from unclouded.scenes.stretch import parse_stretch, stretched_range
from unclouded.whole_scene import restore_scene


def tif(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    count, height, width = pixels.shape
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 4e6), "photometric": "MINISBLACK"}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **place, **profile
    ) as file:
        file.write(pixels)
    return path


def numbers(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.startswith("float"):
        return (rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6, shape)).astype(np.float32).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("percentiles", [(2.0, 98.0), (0.0, 100.0), (12.5, 50.0)])
def test_percentiles_are_those_of_all_valid_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, percentiles: tuple[float, float]
) -> None:
    monkeypatch.setattr(stretch, "ROWS", 7)
    pixels = numbers(dtype, (3, 41, 53))
    pixels[:, 5:30, 9:40] = 3  # nodata: would be half of all
    nodata = 3
    with open_scene(tif(tmp_path / "in.tif", pixels, nodata=nodata)) as scene:
        found = stretched_range(scene, (3, 1), percentiles)
    for channel, band in enumerate((2, 0)):
        valid = pixels[band][pixels[band] != nodata]
        expected = np.quantile(valid, np.array(percentiles) / 100, method="inverted_cdf")
        assert (found.low[channel], found.high[channel]) == tuple(expected.astype(float))


def test_a_percentile_of_a_few_numbers_is_one_of_them(tmp_path: Path) -> None:
    pixels = np.array([[[10, 20, 30, 40]]], np.uint16)
    with open_scene(tif(tmp_path / "in.tif", pixels)) as scene:
        for percentiles, expected in {(0, 25): (10, 10), (25, 26): (10, 20), (50, 75): (20, 30)}.items():
            if expected[0] == expected[1]:
                with pytest.raises(UncloudedError, match=r"Band 1 .* is 10 at both percentiles"):
                    stretched_range(scene, (1,), percentiles)
            else:
                found = stretched_range(scene, (1,), percentiles)
                assert (*found.low, *found.high) == expected


class Recorder:
    bands = BandSet.display("red", "green", "blue")

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        self.seen.append(y)
        return SimpleNamespace(clear=1 - y)


def test_every_tile_is_stretched_alike(tmp_path: Path) -> None:
    """Two halves of different brightness: a stretch per tile would show both alike."""
    pixels = np.random.default_rng(0).integers(100, 300, (3, 32, 64)).astype(np.uint16)
    pixels[:, :, 32:] += 20_000
    model = Recorder()
    report = restore_scene(
        tif(tmp_path / "in.tif", pixels), tmp_path / "out.tif", model=model, stretch="p0-100", tile=32, overlap=0,
        batch_size=1,
    )  # fmt: skip
    dark, bright = (float(y.mean()) for y in model.seen)
    assert dark < 0.02
    assert bright > 0.98
    assert report.dn_range.low == tuple(pixels.min(axis=(1, 2)))
    with rasterio.open(tmp_path / "out.tif") as file:
        turned = pixels.min(axis=(1, 2), keepdims=True) + pixels.max(axis=(1, 2), keepdims=True) - pixels
        np.testing.assert_allclose(file.read().astype(int), turned, atol=1)


@pytest.mark.parametrize("text", ["2-98", "p98-2", "p2", "p-1-98", "p0-101", "p5-5", ""])
def test_stretches_that_are_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match="p2-98"):
        parse_stretch(text)


@pytest.mark.parametrize("other", [{"value_range": (0, 9)}, {"reflectance": (1e-4, 0.0)}])
def test_one_choice_excludes_the_others(tmp_path: Path, other: dict[str, Any]) -> None:
    source = tif(tmp_path / "in.tif", numbers("uint16", (3, 9, 9)))
    with pytest.raises(UsageError, match="and --stretch both say"):
        restore_scene(source, tmp_path / "out.tif", model=Recorder(), stretch="p2-98", **other)


def test_a_resumed_run_keeps_its_stretch(tmp_path: Path) -> None:
    source, target = tif(tmp_path / "in.tif", numbers("uint16", (3, 64, 20))), tmp_path / "out.tif"

    class Stopped(Recorder):
        def restore(self, *args: Any, **options: Any) -> Any:
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().restore(*args, **options)

    options: dict[str, Any] = {"tile": 16, "overlap": 0, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        restore_scene(source, target, model=Stopped(), stretch="p2-98", **options)
    with pytest.raises(UncloudedError, match='had --stretch "p2-98", and this one has "p3-98"'):
        restore_scene(source, target, model=Stopped(), stretch="p3-98", resume=True, **options)
    resumed = type("Stopped", (Recorder,), {})()  # the same name, since a double's name identifies it
    restore_scene(source, target, model=resumed, stretch="p2-98", resume=True, **options)
    restore_scene(source, tmp_path / "whole.tif", model=resumed, stretch="p2-98", **options)
    assert target.read_bytes() == (tmp_path / "whole.tif").read_bytes()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_scene(tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for height in (512, 4096):
        with open_scene(tif(tmp_path / f"{height}.tif", np.full((1, height, 512), 9, np.float32), compress="lzw")) as s:
            tracemalloc.start()
            with pytest.raises(UncloudedError, match="at both percentiles"):
                stretched_range(s, (1,), (2, 98))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]

"""Rows in which the mask marks nothing are neither read twice nor stored, and nothing shows it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from torch import Tensor

from unclouded.scenes.bands import BandSet
from unclouded.scenes.opening import open_scene
from unclouded.scenes.partial import Partial
from unclouded.scenes.probe import sample, sample_windows
from unclouded.scenes.raster import RasterScene
from unclouded.scenes.tiles import Window
from unclouded.whole_scene import restore_scene

HEIGHT, WIDTH = 330, 120
SMALL = {"tile": 32, "overlap": 8, "panel_width": 70}


class Local:
    """Inverts; looks at the pixel alone."""

    bands = BandSet.display("red", "green", "blue")

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=1 - y, w=y * 0 + 0.25, spread=y * 0 + 0.125)


def write(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=pixels.dtype, crs="EPSG:32633",
        transform=Affine(10, 0, 5e5, 0, -10, 4.6e6), **profile,
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


@pytest.fixture
def pixels() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(1, 255, (3, HEIGHT, WIDTH)).astype(np.uint8)
    pixels[:, :, :9] = 0
    return pixels


@pytest.mark.parametrize(
    "cloud",
    [(slice(0, 0), slice(0, 0)), (slice(150, 160), slice(20, 30)), (slice(0, 3), slice(90, 95)), (slice(300, 330),)],
)
def test_every_layer_is_as_if_all_rows_were_stored(tmp_path: Path, pixels: np.ndarray, cloud: Any) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[cloud] = 1
    report = restore_scene(
        write(tmp_path / "in.tif", pixels, nodata=0), tmp_path / "o.tif", model=Local(), **SMALL,
        mask=write(tmp_path / "mask.tif", mask[None]), mask_out=tmp_path / "m.tif", weights_out=tmp_path / "w.tif",
        uncertainty_out=tmp_path / "u.tif", report=tmp_path / "r.html",
    )  # fmt: skip
    data, marked = pixels[:1] > 0, mask[None] > 0
    expected = {
        "o": np.where(data & marked, 255 - pixels, pixels),
        "m": np.where(data, np.where(marked, 2, 0), 255),
        "u": np.where(pixels > 0, np.where(marked, np.float32(255 / 8), 0), np.nan),
        "w": np.where((pixels > 0) & marked, 0.25, np.nan),
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(read(tmp_path / f"{name}.tif"), values)
    made = int((data & marked).sum())
    assert report.pixels == {
        "input": int(data.sum()) - made, "blended": 0, "synthesised": made, "nodata": int((~data).sum())
    }  # fmt: skip


def test_a_clear_scene_is_read_once_and_never_stored(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.tif", pixels, nodata=0)
    mask = write(tmp_path / "mask.tif", np.zeros((1, HEIGHT, WIDTH), np.uint8))
    times, real = np.zeros((HEIGHT, WIDTH), int), RasterScene.read

    def counted(self: RasterScene, window: Window, indexes: Sequence[int] | None = None) -> np.ndarray:
        times[window.rows, window.cols] += indexes is None  # not the first look, which samples
        return real(self, window, indexes)

    monkeypatch.setattr(RasterScene, "read", counted)
    monkeypatch.setattr(Partial, "append", None)
    restore_scene(source, tmp_path / "o.tif", model=Local(), mask=mask, **SMALL)
    assert (times == 1).all()
    np.testing.assert_array_equal(read(tmp_path / "o.tif"), pixels)


@pytest.mark.parametrize(("height", "width"), [(5000, 2000), (1024, 1), (1025, 130), (128, 9000)])
@pytest.mark.parametrize("block", [None, 64, 256, 2048])
def test_the_first_look_at_a_scene_is_spread_over_it(
    tmp_path: Path, height: int, width: int, block: int | None
) -> None:
    layout = {} if block is None else {"tiled": True, "blockxsize": block, "blockysize": block}
    with rasterio.open(
        tmp_path / "in.tif", "w", driver="GTiff", count=1, height=height, width=width, dtype="uint8", sparse_ok=True,
        crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 4.6e6), **layout,
    ):  # fmt: skip
        pass
    with open_scene(tmp_path / "in.tif") as scene:
        windows = sample_windows(scene.info)
    hits = np.zeros((height, width), np.uint8)
    for window in windows:
        assert window.bottom <= height
        assert window.right <= width
        hits[window.rows, window.cols] += 1
    assert hits.max() == 1
    assert hits.sum() <= 1024**2
    assert hits.all() or max(height, width) > 1024
    for axis, size in ((1, height), (0, width)):
        seen = np.flatnonzero(hits.any(axis=axis))
        gaps = np.diff(np.concatenate([[-1], seen, [size]]))
        assert gaps.max() <= size / 7 + 512
    if block == 256:  # a window lies in one block, unless all of an axis is looked at
        inside = [(w.row // 256, (w.bottom - 1) // 256) for w in windows if height > 1024]
        assert all(first == last for first, last in inside)
        assert Counter(w.row % 256 for w in windows).keys() == {0}


def test_quantiles_of_a_large_scene_are_those_of_all_of_it(tmp_path: Path) -> None:
    ramp = np.linspace(100, 9000, 900 * 800).reshape(1, 900, 800).astype(np.uint16)  # beyond QUANTILE_SAMPLES
    with open_scene(write(tmp_path / "ramp.tif", ramp)) as scene:
        np.testing.assert_allclose(sample(scene, [1])[:, 0], np.quantile(ramp, (0.5, 0.995, 1)), rtol=1e-3)

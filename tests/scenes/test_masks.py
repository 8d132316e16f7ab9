"""Masks: classes, warping, distances; and the law that outside a mask no bit changes."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import BandSet
from unclouded.scenes.masks import Distance, FileMask, marked_by, opacity_around, squared_distance
from unclouded.scenes.opening import open_scene
from unclouded.scenes.tiles import Window
from unclouded.whole_scene import restore_scene

GRID = Affine(10, 0, 500000, 0, -10, 4600000)


def tif(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    options = {"crs": "EPSG:32633", "transform": GRID, **profile}
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **options
        ) as file:
            file.write(pixels)
    return path


class Constant:
    bands = BandSet.display("red", "green", "blue")

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=torch.full_like(y, 0.5))


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_outside_the_mask_no_bit_changes(tmp_path: Path, dtype: str, data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    elements = st.floats(-1e6, 1e6, width=32) if dtype == "float32" else None
    pixels = data.draw(arrays(dtype, (3, *size), elements=elements))
    mask = data.draw(arrays(np.uint8, (1, *size), elements=st.integers(0, 1)))
    feather, dilate = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 2))
    source, where = tif(tmp_path / "in.tif", pixels), tif(tmp_path / "mask.tif", mask)
    report = restore_scene(
        source, tmp_path / "out.tif", model=Constant(), mask=where, mask_feather=str(feather), mask_dilate=str(dilate),
        tile=16, overlap=4, value_range=(0, 200), overwrite=True,
    )  # fmt: skip
    with rasterio.open(tmp_path / "out.tif") as file:
        out = file.read()
    opacity = opacity_around(mask[0] == 1, dilate, feather)
    outside, inside = opacity == 0, mask[0] == 1
    assert out[:, outside].tobytes() == pixels[:, outside].tobytes()
    assert (out[:, inside] == 100).all()
    assert report.pixels["input"] == outside.sum()
    assert report.pixels["blended"] == ((opacity > 0) & (opacity < 1)).sum()


@settings(deadline=None, max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 25), st.integers(1, 25))), st.integers(1, 8))
def test_distances_are_euclidean_up_to_the_reach(marked: np.ndarray, reach: int) -> None:
    got = squared_distance(marked, reach)
    rows, cols = np.indices(marked.shape)
    exact = np.full(marked.shape, np.inf)
    for row, col in np.argwhere(marked):
        exact = np.minimum(exact, (rows - row) ** 2 + (cols - col) ** 2)
    near = exact <= reach**2
    np.testing.assert_array_equal(got[near], exact[near])
    assert (got[~near] > reach**2).all()


def test_opacity_is_one_within_the_dilation_and_falls_beyond() -> None:
    marked = np.zeros((1, 21), bool)
    marked[0, 10] = True
    opacity = opacity_around(marked, 2, 3)[0]
    np.testing.assert_allclose(opacity[10:], [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(opacity, opacity[::-1])
    np.testing.assert_array_equal(opacity_around(marked, 2, 0)[0, 10:15], [1, 1, 1, 0, 0])


@pytest.mark.parametrize("window", [Window(0, 0, 50, 70), Window(13, 7, 11, 20), Window(40, 60, 10, 10)])
def test_windows_of_a_dilated_mask_are_crops_of_the_whole(tmp_path: Path, window: Window) -> None:
    mask = (np.random.default_rng(0).random((1, 50, 70)) < 0.01).astype(np.uint8)
    scene = open_scene(tif(tmp_path / "in.tif", np.ones((3, 50, 70), np.uint8)))
    path = tif(tmp_path / "mask.tif", mask)
    with scene, FileMask(path, scene.info, dilate=Distance(2.5), feather=Distance(60, metres=True)) as file:
        np.testing.assert_array_equal(
            file.opacity(window), opacity_around(mask[0] == 1, 2.5, 6)[window.rows, window.cols]
        )


def test_a_mask_on_another_grid_is_warped(tmp_path: Path) -> None:
    coarse = np.zeros((1, 20, 20), np.uint8)
    coarse[0, 3:5, 2:6] = 9
    scene = open_scene(tif(tmp_path / "in.tif", np.ones((3, 60, 80), np.uint8)))
    mask = tif(tmp_path / "mask.tif", coarse, transform=Affine(20, 0, 500000 - 40, 0, -20, 4600000 + 20))
    with scene, FileMask(mask, scene.info, "9") as file:
        opacity = file.opacity(Window(0, 0, 60, 80))
    expected = np.zeros((60, 80))
    expected[2 * 3 - 2 : 2 * 5 - 2, 2 * 2 - 4 : 2 * 6 - 4] = 1
    np.testing.assert_array_equal(opacity, expected)


def test_a_mask_in_another_coordinate_system_is_warped(tmp_path: Path) -> None:
    """A 0.0001° mask of the half east of a meridian, on a UTM scene: the border lies where the projection says."""
    from rasterio.warp import transform

    scene = open_scene(tif(tmp_path / "in.tif", np.ones((3, 60, 80), np.uint8)))
    (lon,), (lat,) = transform("EPSG:32633", "EPSG:4326", [500400], [4599700])
    east = np.zeros((1, 400, 400), np.uint8)
    east[:, :, 200:] = 1
    mask = tif(tmp_path / "m.tif", east, crs="EPSG:4326", transform=Affine(1e-4, 0, lon - 0.02, 0, -1e-4, lat + 0.02))
    with scene, FileMask(mask, scene.info) as file:
        opacity = file.opacity(Window(0, 0, 60, 80))
    assert (opacity[:, :38] == 0).all()
    assert (opacity[:, 42:] == 1).all()


SCL = np.arange(12)
QA = np.array([1 << bit for bit in range(8)])


@pytest.mark.parametrize(
    ("values", "mask", "marked"),
    [
        (None, np.array([0, 1, 255]), [1, 2]),
        (None, np.array([0.0, np.nan, 0.5]), [2]),
        ("scl", SCL, [3, 8, 9, 10]),
        ("SCL", SCL, [3, 8, 9, 10]),
        ("qa_pixel", QA, [1, 2, 3, 4]),
        ("qa_pixel", np.array([21824, 22280, 23888, 1]), [1, 2]),  # USGS examples: clear, cloud, cloud shadow, fill
        ("s2cloudless", np.array([0, 1, 255]), [1]),
        ("omnicloudmask", np.array([0, 1, 2, 3]), [1, 2, 3]),
        ("1,8-10", SCL, [1, 8, 9, 10]),
    ],
)
def test_classes(values: str | None, mask: np.ndarray, marked: list[int]) -> None:
    assert np.flatnonzero(marked_by(values)(mask)).tolist() == marked


@pytest.mark.parametrize("values", ["clouds", "1,", "9-3", "-1", "1.5", "0-99999999"])
def test_classes_that_are_not_understood(values: str) -> None:
    with pytest.raises(UsageError, match="scl, qa_pixel"):
        marked_by(values)


@pytest.mark.parametrize("text", ["x", "-3", "3 km", ""])
def test_distances_that_are_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape("30m")):
        Distance.parse(text)


def test_distances_in_metres_follow_the_grid(tmp_path: Path) -> None:
    ones = np.ones((3, 4, 4), np.uint8)
    with open_scene(tif(tmp_path / "utm.tif", ones)) as scene:
        assert Distance.parse("30m").in_pixels(scene.info) == pytest.approx(3)
        assert Distance.parse("2.5").in_pixels(scene.info) == 2.5
    degrees = tif(tmp_path / "deg.tif", ones, crs="EPSG:4326", transform=Affine(1e-3, 0, 0, 0, -1e-3, 0))
    with open_scene(degrees) as scene:
        assert Distance.parse("222.64m").in_pixels(scene.info) == pytest.approx(2)
    feet = tif(tmp_path / "ft.tif", ones, crs="EPSG:2263")
    with open_scene(feet) as scene:
        assert Distance.parse("30.48m").in_pixels(scene.info) == pytest.approx(10, rel=1e-3)
    with (
        open_scene(tif(tmp_path / "no.tif", ones, crs=None, transform=None)) as scene,
        pytest.raises(UncloudedError, match="in pixels"),
    ):
        Distance.parse("30m").in_pixels(scene.info)


def test_a_mask_with_an_alpha_band_marks_where_it_is_opaque(tmp_path: Path) -> None:
    """On a grid of 20 m, one pixel marked and opaque, one marked and transparent."""
    marks = np.zeros((2, 4, 4), np.uint8)
    marks[0, 1, 1:3], marks[1] = 1, 255
    marks[1, 1, 2] = 0
    path = tif(tmp_path / "m.tif", marks, transform=Affine(20, 0, 500000, 0, -20, 4600000), photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = (ColorInterp.gray, ColorInterp.alpha)
    with (
        open_scene(tif(tmp_path / "in.tif", np.ones((3, 8, 8), np.uint8))) as scene,
        FileMask(path, scene.info) as mask,
    ):
        opacity = mask.opacity(Window(0, 0, 8, 8))
    expected = np.zeros((8, 8), np.float32)
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(opacity, expected)


def test_what_a_mask_calls_nodata_is_not_marked(tmp_path: Path) -> None:
    """On the scene's own grid, where nothing is warped."""
    marks = np.zeros((1, 8, 8), np.uint8)
    marks[0, 2, 3], marks[0, 5] = 1, 9
    path = tif(tmp_path / "m.tif", marks, nodata=9)
    with (
        open_scene(tif(tmp_path / "in.tif", np.ones((3, 8, 8), np.uint8))) as scene,
        FileMask(path, scene.info) as mask,
    ):
        np.testing.assert_array_equal(mask.opacity(Window(0, 0, 8, 8)), marks[0] == 1)


def bad_mask(path: Path, kind: str) -> Path:
    ones = np.ones((1, 30, 30), np.uint8)
    if kind == "elsewhere":
        return tif(path, ones, transform=Affine(10, 0, 800000, 0, -10, 4600000))
    if kind == "wrong zone":
        return tif(path, ones, crs="EPSG:32622")
    if kind == "no system":
        return tif(path, ones, crs=None, transform=None)
    path.write_text("no image", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("elsewhere", "does not overlap"),
        ("wrong zone", "does not overlap"),
        ("no system", "no coordinate system"),
        ("text", "not an image"),
    ],
)
def test_masks_that_cannot_be_used(tmp_path: Path, kind: str, message: str) -> None:
    scene = open_scene(tif(tmp_path / "in.tif", np.ones((3, 60, 80), np.uint8)))
    with scene, pytest.raises(UncloudedError, match=message):
        FileMask(bad_mask(tmp_path / "mask.tif", kind), scene.info)


def test_masks_that_mark_nothing_or_everything_are_said(tmp_path: Path) -> None:
    source = tif(tmp_path / "in.tif", np.full((3, 30, 30), 7, np.uint8))
    for value, note in [(0, "marks no pixel"), (1, "Every pixel")]:
        mask = tif(tmp_path / "mask.tif", np.full((1, 30, 30), value, np.uint8))
        report = restore_scene(source, tmp_path / "out.tif", model=Constant(), mask=mask, overwrite=True)
        assert any(note in line for line in report.notes)


def test_tiles_without_a_marked_pixel_are_not_restored(tmp_path: Path) -> None:
    class Counting(Constant):
        tiles = 0

        def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
            self.tiles += len(y)
            return super().restore(y, origins, sampling)

    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 40, 3] = 1
    model = Counting()
    source = tif(tmp_path / "in.tif", np.full((3, 64, 64), 7, np.uint8))
    report = restore_scene(
        source, tmp_path / "o.tif", model=model, mask=tif(tmp_path / "m.tif", mask), tile=16, overlap=0
    )
    assert (model.tiles, report.tiles) == (1, 16)

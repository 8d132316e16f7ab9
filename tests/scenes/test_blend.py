"""Blending: constants and agreeing tiles keep their bits, order does not matter, rows are released when finished."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.scenes.blend import Blender, feather, ramp
from unclouded.scenes.tiles import TileGrid

SIZES = [(101, 203, 32, 8), (1, 77, 16, 4), (64, 96, 32, 0), (5, 7, 256, 64), (90, 33, 32, 31)]


def blend_scene(image: np.ndarray, grid: TileGrid) -> np.ndarray:
    blender = Blender(len(image), grid.width)
    rows = []
    for index in range(len(grid.row_starts)):
        for window in grid.tiles(index):
            weights = feather(window.height, window.width, grid.overlap)
            blender.add(image[:, window.rows, window.cols], window, weights)
        rows.append(blender.release(grid.finished(index)))
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize("size", SIZES)
def test_tiles_that_agree_come_out_bit_for_bit(size: tuple[int, int, int, int]) -> None:
    grid = TileGrid(*size)
    image = np.random.default_rng(0).random((3, grid.height, grid.width), np.float32)
    np.testing.assert_array_equal(blend_scene(image, grid), image)
    constant = np.full_like(image, 0.1)
    np.testing.assert_array_equal(blend_scene(constant, grid), constant)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 20))
def test_order_of_tiles_does_not_matter(random: object, overlap: int) -> None:
    grid = TileGrid(60, 45, 21, overlap)
    windows = [w for index in range(len(grid.row_starts)) for w in grid.tiles(index)]
    rng = np.random.default_rng(1)
    tiles = [rng.random((2, w.height, w.width), np.float32) for w in windows]
    results = []
    shuffled = sorted(range(len(windows)), key=lambda _: random.random())  # type: ignore[attr-defined]
    for order in (range(len(windows)), shuffled):
        blender = Blender(2, grid.width)
        for k in order:
            blender.add(tiles[k], windows[k], feather(windows[k].height, windows[k].width, overlap))
        results.append(blender.release(grid.height))
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def test_it_is_the_weighted_mean() -> None:
    grid = TileGrid(8, 12, 8, 4)
    weights = feather(8, 8, 4)
    blender = Blender(1, 12)
    left, right = grid.tiles(0)
    blender.add(np.full((1, 8, 8), 2.0, np.float32), left, weights)
    blender.add(np.full((1, 8, 8), 5.0, np.float32), right, weights)
    out = blender.release(8)[0]
    w = ramp(8, 4)
    expected = (2 * w[4:] + 5 * w[:4]) / (w[4:] + w[:4])
    np.testing.assert_allclose(out[3, 4:8], expected, rtol=1e-6)
    assert (out[:, :4] == 2).all()
    assert (out[:, 8:] == 5).all()


def test_rows_above_the_top_are_ignored() -> None:
    grid = TileGrid(50, 20, 16, 6)
    image = np.random.default_rng(2).random((1, 50, 20), np.float32)
    blender = Blender(1, 20, top=23)
    for index in range(grid.resume_at(23), len(grid.row_starts)):
        for window in grid.tiles(index):
            blender.add(image[:, window.rows, window.cols], window, feather(16, 16, 6))
    np.testing.assert_array_equal(blender.release(50), image[:, 23:])


def test_weights_are_positive_symmetric_and_one_inside() -> None:
    for length, overlap in [(256, 64), (1, 3), (5, 4), (10, 0)]:
        w = ramp(length, overlap)
        assert (w > 0).all()
        assert (w <= 1).all()
        np.testing.assert_allclose(w, w[::-1])
    assert (ramp(10, 0) == 1).all()
    np.testing.assert_allclose(ramp(256, 64)[:64] + ramp(256, 64)[-64:], 1, atol=1e-6)  # neighbours' ramps add up to 1

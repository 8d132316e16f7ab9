"""Laws of the tile geometry on awkward sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclouded.errors import UsageError
from unclouded.scenes.tiles import TileGrid, starts

SIZES = [(101, 203, 32, 8), (1, 77, 16, 4), (77, 1, 16, 15), (64, 96, 32, 0), (5, 5, 256, 64), (33, 32, 32, 31)]


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SIZES)
def test_tiles_cover_the_scene_and_stay_inside(height: int, width: int, tile: int, overlap: int) -> None:
    grid = TileGrid(height, width, tile, overlap)
    hits = np.zeros((height, width), int)
    shapes = set()
    for index in range(len(grid.row_starts)):
        for window in grid.tiles(index):
            assert window.row >= 0
            assert window.col >= 0
            assert window.bottom <= height
            assert window.right <= width
            hits[window.rows, window.cols] += 1
            shapes.add((window.height, window.width))
    assert hits.min() >= 1
    assert hits.sum() == len(grid) * grid.tile_height * grid.tile_width
    assert shapes == {(min(tile, height), min(tile, width))}


@pytest.mark.parametrize(("height", "width", "tile", "overlap"), SIZES)
def test_cores_part_the_scene_and_keep_away_from_the_tiles_edges(
    height: int, width: int, tile: int, overlap: int
) -> None:
    grid = TileGrid(height, width, tile, overlap)
    hits = np.zeros((height, width), int)
    for window in (window for index in range(len(grid.row_starts)) for window in grid.tiles(index)):
        core = grid.core(window)
        hits[core.rows, core.cols] += 1
        for edge, outer, border in (
            (core.row, window.row, 0), (window.bottom, core.bottom, height),
            (core.col, window.col, 0), (window.right, core.right, width),
        ):  # fmt: skip
            assert edge - outer >= overlap // 2 or border in (outer, edge)
    assert (hits == 1).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 500), st.integers(1, 64), st.data())
def test_neighbours_overlap_by_at_least_the_overlap(size: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    first = starts(size, tile, overlap)
    steps = np.diff(first)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()
    assert first[-1] + min(tile, size) == size


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 3000), st.integers(1, 400), st.data())
def test_even_tiles_overlap_hardly_more_than_asked(size: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    grid = TileGrid(size, 1, tile, overlap, even=True)
    n, side = len(grid.row_starts), grid.tile_height
    between = -np.diff([*grid.row_starts]) + side
    assert grid.row_starts[-1] + side == size
    assert (between >= overlap).all()
    assert between.sum() <= (n - 1) * overlap + 16 * n + side  # 16 n for what networks need not pad
    assert n == 1 or side % 16 == 0 or side == size


def test_even_tiles_are_about_as_large_as_asked() -> None:
    sides = {300: 300, 700: 700, 740: 416, 1024: 544, 1984: 544, 4096: 512, 10980: 528}
    for size, side in sides.items():
        grid = TileGrid(size, 50, 512, 64, even=True)
        assert (grid.tile_height, grid.tile_width) == (side, 50)
    assert len(TileGrid(4096, 4096, 512, 64, even=True)) == 81


def test_an_exact_multiple_has_no_extra_tile() -> None:
    assert starts(96, 32, 0) == (0, 32, 64)
    assert starts(32 + 24 * 2, 32, 8) == (0, 24, 48)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 120), st.integers(1, 40), st.data())
def test_finished_rows_are_touched_by_no_later_tile(height: int, tile: int, data: st.DataObject) -> None:
    grid = TileGrid(height, 10, tile, data.draw(st.integers(0, tile - 1)))
    for index in range(len(grid.row_starts)):
        later = [grid.strip(k).row for k in range(index + 1, len(grid.row_starts))]
        assert grid.finished(index) == min(later, default=height)
        again = grid.resume_at(grid.finished(index))
        touching = [k for k in range(len(grid.row_starts)) if grid.strip(k).bottom > grid.finished(index)]
        assert again == min(touching, default=len(grid.row_starts))


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (-3, 0), (32, 32), (32, -1)])
def test_a_tile_without_a_stride_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(UsageError, match=r"--tile|--overlap"):
        TileGrid(10, 10, tile, overlap)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(1, 200), st.data())
def test_panels_partition_the_columns_and_bound_what_is_read(
    width: int, tile: int, limit: int, data: st.DataObject
) -> None:
    grid = TileGrid(10, width, tile, data.draw(st.integers(0, tile - 1)))
    panels = grid.panels(limit)
    assert [c for left, right in panels for c in range(left, right)] == list(range(width))
    for left, right in panels:
        cols = grid.touching(left, right)
        assert set(cols) == {w.col for w in grid.tiles(0) if w.col < right and w.right > left}
        span = grid.strip(0, cols)
        assert span.col <= left
        assert span.right >= right
        steps = [c for c in grid.col_starts if left <= c < right]
        assert span.width <= limit or len(steps) == 1

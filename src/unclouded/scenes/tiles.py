"""Where the tiles of a scene lie: pure geometry, no pixels, no I/O.

Axes are named: `row` and `height` go down, `col` and `width` go right; sizes are (height, width) in pixels. All tiles
of a scene have one shape, so that they stack into batches: the last tile of an axis is shifted inside, and an axis
shorter than a tile has one tile of the axis' own length.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil

from unclouded.errors import UsageError

BLOCK = 16  # networks need not pad sides that are multiples of it


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: rows [row, row + height), columns [col, col + width)."""

    row: int
    col: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.row + self.height

    @property
    def right(self) -> int:
        return self.col + self.width

    @property
    def rows(self) -> slice:
        return slice(self.row, self.bottom)

    @property
    def cols(self) -> slice:
        return slice(self.col, self.right)


def starts(size: int, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the tiles along one axis, `tile - overlap` apart, the last one shifted inside."""
    if size <= tile:
        return (0,)
    return (*range(0, size - tile, tile - overlap), size - tile)


def even_side(size: int, tile: int, overlap: int) -> int:
    """The side of the tiles that divide an axis evenly: as near to `tile` as a whole number of tiles comes; from two on
    a multiple of BLOCK."""
    n = max(1, round((size - overlap) / (tile - overlap)))
    return size if n == 1 else min(size, BLOCK * ceil((size + (n - 1) * overlap) / (BLOCK * n)))


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a scene of `height` × `width` pixels, in rows of tiles from top to bottom: of `tile` pixels a side,
    or, if `even`, of about as many, so that hardly a pixel is in more of them than `overlap` asks for.

    Raises UsageError for a tile or overlap that leaves no stride.
    """

    height: int
    width: int
    tile: int = 256
    overlap: int = 64
    even: bool = False

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise UsageError(f"A tile of {self.tile} pixels holds nothing. Give --tile a size of 1 or more.")
        if not 0 <= self.overlap < self.tile:
            raise UsageError(
                f"Tiles of {self.tile} pixels cannot overlap by {self.overlap}. "
                f"Give --overlap from 0 to {self.tile - 1}."
            )

    @cached_property
    def row_starts(self) -> tuple[int, ...]:
        return starts(self.height, self.tile_height, self.overlap)

    @cached_property
    def col_starts(self) -> tuple[int, ...]:
        return starts(self.width, self.tile_width, self.overlap)

    @cached_property
    def tile_height(self) -> int:
        return self._side(self.height)

    @cached_property
    def tile_width(self) -> int:
        return self._side(self.width)

    def _side(self, size: int) -> int:
        return even_side(size, self.tile, self.overlap) if self.even else min(self.tile, size)

    def __len__(self) -> int:
        return len(self.row_starts) * len(self.col_starts)

    def panels(self, width: int) -> tuple[tuple[int, int], ...]:
        """The scene's columns cut into [left, right), left edges at tile starts, so that memory can be bounded.

        The tiles that a panel needs span at most `width` columns, unless two tiles side by side already span more.
        """
        edges = [0]
        for here, following in pairwise((*self.col_starts[1:], self.width)):
            if self.strip(0, self.touching(edges[-1], following)).width > width:
                edges.append(here)
        return tuple(pairwise((*edges, self.width)))

    def touching(self, left: int, right: int) -> tuple[int, ...]:
        """The first columns of the tiles that touch scene columns [left, right)."""
        return tuple(col for col in self.col_starts if col < right and col + self.tile_width > left)

    def core(self, tile: Window) -> Window:
        """The part of a tile that is nearer to its middle than to its neighbours': the cores part the scene.

        A tile must be restored only if something in its core is to be replaced: what lies beyond is in the core, and
        well inside, of a neighbour.
        """
        top, bottom = self._core(self.row_starts, self.tile_height, self.height, tile.row)
        left, right = self._core(self.col_starts, self.tile_width, self.width, tile.col)
        return Window(top, left, bottom - top, right - left)

    @staticmethod
    def _core(starts: tuple[int, ...], tile: int, size: int, start: int) -> tuple[int, int]:
        """Between the middles of the overlaps with the tile before and the one after."""
        i = bisect_left(starts, start)
        first = (starts[i - 1] + tile + start) // 2 if i > 0 else 0
        last = (start + tile + starts[i + 1]) // 2 if i + 1 < len(starts) else size
        return first, last

    def strip(self, index: int, cols: Sequence[int] | None = None) -> Window:
        """The rows of tile row `index`, as wide as the tiles that begin at `cols` (all if None)."""
        cols = cols or self.col_starts
        return Window(self.row_starts[index], cols[0], self.tile_height, cols[-1] + self.tile_width - cols[0])

    def tiles(self, index: int, cols: Sequence[int] | None = None) -> Iterator[Window]:
        """The tiles of tile row `index` that begin at `cols` (all if None), left to right."""
        for col in cols or self.col_starts:
            yield Window(self.row_starts[index], col, self.tile_height, self.tile_width)

    def finished(self, index: int) -> int:
        """The number of scene rows that no tile row after `index` touches."""
        return self.row_starts[index + 1] if index + 1 < len(self.row_starts) else self.height

    def resume_at(self, rows_done: int) -> int:
        """The first tile row that touches a scene row from `rows_done` on: where a resumed run begins."""
        return bisect_right(self.row_starts, rows_done - self.tile_height)

"""The grid that both scenes of a place are brought to, and scenes read on it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from unclouded.datasets.preparing.affine_maps import shifted
from unclouded.errors import UncloudedError
from unclouded.scenes.failures import reading
from unclouded.scenes.raster import gdal_window
from unclouded.scenes.same_grid import warp
from unclouded.scenes.tiles import Window

GDAL_MOST = 2**31 - 1  # rows and columns of a raster


@dataclass(frozen=True)
class Grid:
    """Pixels of one coordinate system."""

    crs: Any
    transform: Affine
    height: int
    width: int

    def moved(self, rows: float, cols: float) -> "Grid":
        """The grid whose pixel (r, c) lies where (r + rows, c + cols) of this one does."""
        return Grid(self.crs, shifted(self.transform, rows, cols), self.height, self.width)

    def lonlat(self) -> tuple[float, float, float, float]:
        """West, south, east and north in degrees."""
        t = self.transform
        right, bottom = t.c + t.a * self.width, t.f + t.e * self.height
        west, south, east, north = transform_bounds(self.crs, "EPSG:4326", t.c, bottom, right, t.f)
        return west, south, east, north


def common_grid(
    clear: Any, cloudy: Any, pixel_size: float | None = None, shift: tuple[float, float] = (0.0, 0.0)
) -> Grid:
    """The clear scene's own pixels (or pixels of `pixel_size` in its coordinate system) where both scenes lie.

    `shift` (rows, cols) says how far the cloudy scene is off, so that no pixel lacks data once it is moved.
    Raises UncloudedError for scenes without coordinate system, turned ones, scenes that do not overlap, and pixels so
    small that GDAL cannot count them.
    """
    for file in (clear, cloudy):
        if file.crs is None:
            raise UncloudedError(
                f"{_name(file)} has no coordinate system. Georeference it, for example with gdal_translate -a_srs."
            )
    origin = clear.transform
    if origin.b or origin.d or origin.a <= 0 or origin.e >= 0:
        raise UncloudedError(f"The grid of {_name(clear)} is turned. Warp it north-up first, with gdalwarp.")
    size_x, size_y = (pixel_size, pixel_size) if pixel_size else (origin.a, -origin.e)
    left, bottom, right, top = transform_bounds(cloudy.crs, clear.crs, *cloudy.bounds)
    left, right = left - shift[1] * size_x, right - shift[1] * size_x
    bottom, top = bottom + shift[0] * size_y, top + shift[0] * size_y
    own = clear.bounds
    # a hair of a pixel is rounding of coordinates, not a row less
    first_col = math.ceil((max(left, own.left) - own.left) / size_x - 1e-6)
    last_col = math.floor((min(right, own.right) - own.left) / size_x + 1e-6)
    first_row = math.ceil((own.top - min(top, own.top)) / size_y - 1e-6)
    last_row = math.floor((own.top - max(bottom, own.bottom)) / size_y + 1e-6)
    if last_col <= first_col or last_row <= first_row:
        raise UncloudedError(
            f"{_name(cloudy)} does not overlap {_name(clear)}. Give scenes of one place, or correct their grids."
        )
    if max(last_col - first_col, last_row - first_row) > GDAL_MOST:
        raise UncloudedError(f"{_name(clear)} has too many pixels of {size_x:g}. Give a larger --pixel-size.")
    transform = Affine(size_x, 0, own.left + first_col * size_x, 0, -size_y, own.top - first_row * size_y)
    return Grid(clear.crs, transform, last_row - first_row, last_col - first_col)


def _name(file: Any) -> str:
    """The file, also of a dataset that is described in XML."""
    files = getattr(file, "files", None)
    return str(files[0]) if files and file.name.startswith("<") else str(file.name)


class Pixels(NamedTuple):
    """DN [C, h, w] and where they are data [h, w]."""

    dn: NDArray[Any]
    valid: NDArray[np.bool_]


class Warped:
    """A scene read by windows of a grid that it need not have."""

    def __init__(self, vrt: WarpedVRT, indexes: tuple[int, ...], name: str) -> None:
        self._vrt = vrt
        self.indexes = indexes
        self.name = name

    def read(self, window: Window) -> Pixels:
        part = gdal_window(window)
        with reading(self.name):
            dn = self._vrt.read(list(self.indexes), window=part)
            valid = self._vrt.dataset_mask(window=part) != 0
        if dn.dtype.kind == "f":
            finite = np.isfinite(dn).all(axis=0)
            dn, valid = np.where(finite, dn, 0), valid & finite
        return Pixels(dn, valid)


@contextmanager
def on_grid(file: Any, grid: Grid, resampling: Resampling = Resampling.cubic, **source: Any) -> Iterator[Warped]:
    """The open dataset `file` on `grid`, resampled once; `source` may give it a grid that it lacks (src_crs, …)."""
    name = _name(file)
    indexes = tuple(b for b, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != ColorInterp.alpha)
    with reading(name):
        vrt = warp(file, grid, resampling, **source)
    with vrt:
        yield Warped(vrt, indexes, name)

"""Which pixels of a scene are to be replaced: a mask file on any grid, read by windows of the scene.

A mask becomes an *opacity* in [0, 1]: 1 is replaced, 0 keeps the scene's bits. The marked pixels always have opacity 1;
dilation and feather only add to them, outwards, so that nothing cloudy remains at an edge.
"""

import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.failures import reading
from unclouded.scenes.raster import Array, Mask, SceneInfo, gdal_window
from unclouded.scenes.same_grid import needs_warp, warp
from unclouded.scenes.tiles import Window

Float32 = NDArray[np.float32]
METRES_PER_DEGREE = 111_320.0


def _classes(*values: int) -> Callable[[Array], Mask]:
    return lambda mask: np.isin(mask, values)


def _bits(*bits: int) -> Callable[[Array], Mask]:
    flags = sum(1 << bit for bit in bits)
    return lambda mask: (mask.astype(np.int64) & flags) != 0


def nonzero(mask: Array) -> Mask:
    """Plain masks: anything but 0 (and NaN) is marked."""
    marked: Mask = (mask != 0) & ~np.isnan(mask) if mask.dtype.kind == "f" else mask != 0
    return marked


# what the usual cloud masks mark as cloud, thin cloud and cloud shadow
PRESETS: dict[str, Callable[[Array], Mask]] = {
    "binary": nonzero,
    "scl": _classes(3, 8, 9, 10),  # Sentinel-2 L2A: shadow, medium and high probability, thin cirrus
    "qa_pixel": _bits(1, 2, 3, 4),  # Landsat Collection 2: dilated cloud, cirrus, cloud, shadow
    "s2cloudless": _classes(1),  # 0 clear, 1 cloud, 255 no data
    "omnicloudmask": _classes(1, 2, 3),  # thick cloud, thin cloud, shadow
}


def marked_by(values: str | None) -> Callable[[Array], Mask]:
    """The rule of --mask-values: a preset's name, or numbers and ranges such as `1,3,8-10`. Raises UsageError."""
    if values is None:
        return nonzero
    if values.lower() in PRESETS:
        return PRESETS[values.lower()]
    chosen: list[int] = []
    for part in values.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) - int(match[1]) not in range(65536):
            raise UsageError(
                f"The mask values {values!r} are not understood. "
                f"Give numbers and ranges such as 1,3,8-10, or one of {', '.join(PRESETS)}."
            )
        chosen += range(int(match[1]), int(match[2] or match[1]) + 1)
    return _classes(*chosen)


@dataclass(frozen=True)
class Distance:
    """A length in pixels of the scene, or in metres."""

    value: float
    metres: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """`3` or `3px` is pixels, `30m` is metres. Raises UsageError."""
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(px|m)?\s*", text)
        if match is None:
            raise UsageError(f"The distance {text!r} is not understood. Give pixels, as in 3, or metres, as in 30m.")
        return cls(float(match[1]), match[2] == "m")

    def in_pixels(self, info: SceneInfo) -> float:
        if not self.metres or not self.value:
            return self.value
        if info.crs is None or info.transform.is_identity:
            raise UncloudedError(
                f"{info.name} has no grid in metres, so {self.value:g}m cannot be measured. "
                "Give the distance in pixels."
            )
        size = float(np.sqrt(abs(info.transform.determinant)))
        unit = METRES_PER_DEGREE if info.crs.is_geographic else info.crs.linear_units_factor[1]
        return self.value / (size * unit)


def opacity_around(marked: Mask, dilate: float, feather: float) -> Float32:
    """1 within `dilate` pixels of a marked pixel, then falling linearly over the next `feather` pixels to 0; [H, W]."""
    if dilate <= 0 and feather <= 0:
        return marked.astype(np.float32)
    distance = np.sqrt(squared_distance(marked, int(np.ceil(dilate + feather))))
    falling = np.clip(1 - (distance - dilate) / (feather + 1), 0, 1)
    return np.where(distance <= dilate + feather, falling, 0).astype(np.float32)


def squared_distance(marked: Mask, reach: int) -> Float32:
    """Squared Euclidean distance [H, W] to the nearest marked pixel; exact up to `reach`, larger than that beyond."""
    far = np.float32(reach + 1)
    cols = np.arange(marked.shape[1], dtype=np.float32)
    seen = np.where(marked, cols, np.float32(-np.inf))
    ahead = np.where(marked, cols, np.float32(np.inf))
    left = cols - np.maximum.accumulate(seen, axis=1)
    right = np.minimum.accumulate(ahead[:, ::-1], axis=1)[:, ::-1] - cols
    across = np.minimum(np.minimum(left, right), far) ** 2
    nearest = across.copy()
    for down in range(1, min(reach, len(marked) - 1) + 1):
        step = np.float32(down * down)
        np.minimum(nearest[down:], across[:-down] + step, out=nearest[down:])
        np.minimum(nearest[:-down], across[down:] + step, out=nearest[:-down])
    return nearest


class FileMask:
    """The opacity of a scene's pixels from a mask file: same size without georeferencing, or any grid, warped to the
    scene.

    Raises UncloudedError if the mask cannot be read, has no georeferencing and another size, or lies elsewhere.
    """

    def __init__(
        self,
        path: str | Path,
        info: SceneInfo,
        values: str | None = None,
        dilate: Distance | None = None,
        feather: Distance | None = None,
    ) -> None:
        self.name = str(path)
        self._info = info
        self._rule = marked_by(values)
        self._dilate = (dilate or Distance(0)).in_pixels(info)
        self._feather = (feather or Distance(0)).in_pixels(info)
        self._margin = int(np.ceil(self._dilate + self._feather))
        self._files = ExitStack()
        try:
            with reading(self.name), warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._file = self._files.enter_context(rasterio.open(self.name))
                if needs_warp(self._file, self.name, info, "mask"):
                    self._file = self._files.enter_context(warp(self._file, info, Resampling.nearest))
        except BaseException:
            self._files.close()
            raise

    def opacity(self, window: Window) -> Float32:
        """Opacity [h, w] of the scene's `window`."""
        margin, info = self._margin, self._info
        top, left = max(0, window.row - margin), max(0, window.col - margin)
        bottom, right = min(info.height, window.bottom + margin), min(info.width, window.right + margin)
        opacity = opacity_around(
            self._marked(Window(top, left, bottom - top, right - left)), self._dilate, self._feather
        )
        rows = slice(window.row - top, window.row - top + window.height)
        return opacity[rows, window.col - left : window.col - left + window.width]

    def _marked(self, window: Window) -> Mask:
        with reading(self.name):
            marked = self._rule(self._file.read(1, window=gdal_window(window)))
            if MaskFlags.all_valid not in self._file.mask_flag_enums[0]:
                marked &= self._file.read_masks(1, window=gdal_window(window)) != 0
        return marked

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

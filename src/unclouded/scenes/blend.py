"""Blending overlapping tiles into finished scene rows.

The blender keeps a running weighted mean, m ← m + (v − m)·w/Σw. In this form a value that all tiles agree on comes out
with its very bits (v − m is 0), which is why an identity model returns the scene bit for bit; and only the rows still
open are held.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes.tiles import Window

Float32 = NDArray[np.float32]


def ramp(length: int, overlap: int) -> Float32:
    """Weights [length] along one axis: 1 inside, a squared sine over `overlap` pixels at both ends, never 0."""
    edge = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))  # 1 at the border pixel
    return (np.sin(np.minimum(edge / (overlap + 1), 1.0) * (np.pi / 2)) ** 2).astype(np.float32)


@lru_cache(maxsize=8)
def feather(height: int, width: int, overlap: int) -> Float32:
    """Weights [height, width] of a tile, the product of the ramps of both axes; read-only, in (0, 1]."""
    weights: Float32 = ramp(height, overlap)[:, None] * ramp(width, overlap)[None, :]
    weights.flags.writeable = False
    return weights


class Blender:
    """Takes tiles [C, h, w] in any order and releases finished scene rows [C, rows, width] from the top.

    Its columns are the scene's from `left` on. What lies above `top` (rows released before, or by the run that is being
    resumed) is ignored.
    """

    def __init__(self, channels: int, width: int, top: int = 0, left: int = 0) -> None:
        self.top = top
        self.left = left
        self._mean: Float32 = np.zeros((channels, 0, width), np.float32)
        self._weight: Float32 = np.zeros((0, width), np.float32)

    def add(self, values: Float32, window: Window, weights: Float32) -> None:
        """Blend `values` [C, h, w], finite, with `weights` [h, w] > 0 into the scene at `window`."""
        first = max(window.row, self.top)
        if first >= window.bottom:
            return
        self._open(window.bottom)
        values, weights = values[:, first - window.row :], weights[first - window.row :]
        rows = slice(first - self.top, window.bottom - self.top)
        cols = slice(window.col - self.left, window.right - self.left)
        total = self._weight[rows, cols]
        total += weights
        mean = self._mean[:, rows, cols]
        mean += (values - mean) * (weights / total)

    def release(self, bottom: int) -> Float32:
        """The blended rows [C, bottom − top, width] and moves `top` to `bottom`; pixels that no tile reached are 0."""
        self._open(bottom)
        done = self._mean[:, : bottom - self.top]
        self.drop(bottom)
        return done

    def drop(self, bottom: int) -> None:
        """Moves `top` to `bottom`; what was blended above is not wanted."""
        rows = bottom - self.top
        self._mean, self._weight = self._mean[:, rows:].copy(), self._weight[rows:].copy()
        self.top = bottom

    def _open(self, bottom: int) -> None:
        missing = bottom - self.top - self._weight.shape[0]
        if missing > 0:
            self._mean = np.pad(self._mean, ((0, 0), (0, missing), (0, 0)))
            self._weight = np.pad(self._weight, ((0, missing), (0, 0)))

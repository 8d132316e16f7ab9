"""Putting restored values into a scene's own numbers, and leaving every other number as it was, to the bit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes.bands import DnRange
from unclouded.scenes.raster import Array, Mask

Float32 = NDArray[np.float32]

INPUT, BLENDED, SYNTHESISED, NODATA = 0, 1, 2, 255  # classes of --mask-out


class Cloudy(NamedTuple):
    """Rows of a scene as they were read, with what the model was shown."""

    dn: Array  # [bands of the scene, h, W]
    valid: Mask  # [C, h, W]: which samples of the model's bands are data
    opacity: Float32 | None  # [h, W]: 0 keep, 1 replace, between: blend; None replaces everywhere
    y: Float32  # [C, h, W] in [0, 1], filled where not valid

    def crop(self, rows: slice, cols: slice = slice(None)) -> "Cloudy":
        opacity = None if self.opacity is None else self.opacity[rows, cols]
        return Cloudy(self.dn[:, rows, cols], self.valid[:, rows, cols], opacity, self.y[:, rows, cols])


class Rows(NamedTuple):
    """Finished scene rows from `top` on: as read, and what the model made of them, by layer [C, n, W]."""

    top: int
    cloudy: Cloudy
    layers: dict[str, Float32]

    @property
    def height(self) -> int:
        return int(self.cloudy.dn.shape[1])

    def crop(self, first: int, last: int, cols: slice = slice(None)) -> "Rows":
        """Scene rows [first, last) of these, and some of the columns."""
        rows = slice(first - self.top, last - self.top)
        layers = {name: values[:, rows, cols] for name, values in self.layers.items()}
        return Rows(first, self.cloudy.crop(rows, cols), layers)


def compose(
    cloudy: Cloudy, clear: Float32, bands: Sequence[int], dn_range: DnRange, nodata: Sequence[float | None]
) -> Array:
    """The scene's rows [all bands, h, W] with `clear` [C, h, W] in place of the clouds.

    A sample keeps its bits if it is no data, if its opacity is 0, or if the model returned it as it was given. A scene
    band that feeds several channels takes their mean. `nodata` is the scene's, by band.
    """
    out = cloudy.dn.copy()
    for band in dict.fromkeys(bands):
        channels = [c for c, b in enumerate(bands) if b == band]
        touched = cloudy.valid[channels[0]] & (clear[channels] != cloudy.y[channels]).any(axis=0)
        if cloudy.opacity is not None:
            touched &= cloudy.opacity > 0
        if not touched.any():
            continue
        only = DnRange(low=(dn_range.low[channels[0]],), high=(dn_range.high[channels[0]],))
        x = _mean(clear[channels])
        dn = cloudy.dn[band - 1]
        new = only.from_model(_faded(x, dn, cloudy.opacity, only), dn.dtype, nodata[band - 1])[0]
        np.copyto(out[band - 1], new, where=touched)
    return out


def _mean(x: Float32) -> Float32:
    return x if len(x) == 1 else x.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)


def _faded(x: Float32, dn: Array, opacity: Float32 | None, dn_range: DnRange) -> Array:
    """x [1, h, W] where opacity is 1, fading to the scene's own value, which may lie beyond the model's range."""
    if opacity is None or not ((opacity > 0) & (opacity < 1)).any():
        return x
    low, high = dn_range.low[0], dn_range.high[0]
    own = (np.nan_to_num(dn.astype(np.float64), posinf=0.0, neginf=0.0) - low) / (high - low)
    faded: Array = np.where(opacity < 1, opacity * x + (1 - opacity) * own, x)
    return faded


def classes(cloudy: Cloudy) -> NDArray[np.uint8]:
    """What became of every pixel, [1, h, W]: 0 input, 1 blended, 2 synthesised, 255 nodata."""
    valid = cloudy.valid.any(axis=0)
    if cloudy.opacity is None:
        return np.where(valid, SYNTHESISED, NODATA).astype(np.uint8)[None]
    made = np.where(cloudy.opacity >= 1, SYNTHESISED, np.where(cloudy.opacity > 0, BLENDED, INPUT))
    return np.where(valid, made, NODATA).astype(np.uint8)[None]


def in_scene_units(spread: Float32, cloudy: Cloudy, dn_range: DnRange) -> Float32:
    """The spread [C, h, W] of the samples in DN: 0 where the input was kept, NaN where there is no data."""
    dn = spread * dn_range.span_in_dn()
    if cloudy.opacity is not None:
        dn = dn * cloudy.opacity
    return np.where(cloudy.valid, dn, np.float32(np.nan))


def only_where_made(values: Float32, cloudy: Cloudy) -> Float32:
    """`values` [C, h, W] where pixels were synthesised, NaN elsewhere."""
    made = cloudy.valid if cloudy.opacity is None else cloudy.valid & (cloudy.opacity > 0)
    return np.where(made, values, np.float32(np.nan))

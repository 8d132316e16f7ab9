"""`--stretch p2-98`: black and white are percentiles of the whole scene, found in a pass before the restoration.

An explicit choice for scenes whose numbers have no known unit. The percentiles are exact (the smallest number that at
least p % of the valid ones do not exceed) and are found by counting, so memory does not grow with the scene: numbers
become unsigned 32-bit keys of the same order; one pass counts their upper halves, a second, where the lower halves
matter (floats and 32-bit integers), counts those at the percentiles.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import DnRange
from unclouded.scenes.probe import data_mask
from unclouded.scenes.raster import Array, Scene, sample_valid
from unclouded.scenes.tiles import Window

Keys = NDArray[np.uint32]
Counts = NDArray[np.int64]
ROWS = 256
HALF = 1 << 16
SIGN = np.uint32(1 << 31)


def parse_stretch(text: str) -> tuple[float, float]:
    """`p2-98` as (2, 98). Raises UsageError."""
    match = re.fullmatch(r"p(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text.strip())
    if match is None or not 0 <= float(match[1]) < float(match[2]) <= 100:
        raise UsageError(f"The stretch {text!r} is not understood. Give two percentiles, the lower first: p2-98.")
    return float(match[1]), float(match[2])


def stretched_range(scene: Scene, bands: Sequence[int], percentiles: tuple[float, float]) -> DnRange:
    """The range from one percentile to the other of every band in `bands` (1-based), over the scene's valid pixels.

    Raises UncloudedError if a band has no data, or is constant between them.
    """
    if scene.info.dtype.itemsize == 8 and scene.info.dtype.kind in "ui":
        raise UncloudedError(
            f"{scene.info.name} has integers of 64 bits, which --stretch does not count. Give --range LOW,HIGH."
        )
    distinct = list(dict.fromkeys(bands))
    found = dict(zip(distinct, _percentiles(scene, distinct, percentiles), strict=True))
    for band, (low, high) in found.items():
        if low == high:
            raise UncloudedError(
                f"Band {band} of {scene.info.name} is {low:g} at both percentiles, so there is nothing to stretch. "
                f"Give percentiles further apart, or --range LOW,HIGH."
            )
    return DnRange(low=tuple(found[b][0] for b in bands), high=tuple(found[b][1] for b in bands))


def _percentiles(scene: Scene, bands: Sequence[int], percentiles: tuple[float, float]) -> list[tuple[float, ...]]:
    dtype = scene.info.dtype
    upper = np.zeros((len(bands), HALF), np.int64)
    for channel, keys in _valid_keys(scene, bands):
        upper[channel] += np.bincount(keys >> 16, minlength=HALF)
    _check_counted(scene, bands, upper)
    places = [[_place(counts, p) for p in percentiles] for counts in upper]
    lower = np.zeros((len(bands), len(percentiles), HALF), np.int64)
    if dtype.itemsize >= 4:
        for channel, keys in _valid_keys(scene, bands):
            for number, (half, _) in enumerate(places[channel]):
                inside = keys[keys >> 16 == half] & np.uint32(HALF - 1)
                lower[channel, number] += np.bincount(inside, minlength=HALF)
    else:
        lower[:, :, 0] = np.iinfo(np.int64).max  # all of the key is in its upper half

    def value(half: int, rank: int, counts: Counts) -> float:
        rest = int(np.searchsorted(np.cumsum(counts), rank + 1))
        return _number(np.uint32(half << 16 | rest), dtype)

    return [
        tuple(value(half, rank, counts) for (half, rank), counts in zip(at, below, strict=True))
        for at, below in zip(places, lower, strict=True)
    ]


def _place(counts: Counts, percentile: float) -> tuple[int, int]:
    """The bin of `counts` in which the percentile lies, and its rank (from 0) within that bin."""
    sums = np.cumsum(counts)
    rank = max(int(np.ceil(percentile / 100 * int(sums[-1]) - 1e-9)) - 1, 0)
    half = int(np.searchsorted(sums, rank + 1))
    return half, rank - (int(sums[half - 1]) if half else 0)


def _check_counted(scene: Scene, bands: Sequence[int], counts: Counts) -> None:
    for band, of_band in zip(bands, counts, strict=True):
        if not of_band.any():
            raise UncloudedError(
                f"Band {band} of {scene.info.name} has no data, so it has no percentiles. Choose others with --bands."
            )


def _valid_keys(scene: Scene, bands: Sequence[int]) -> Iterator[tuple[int, Keys]]:
    """The valid numbers' keys, band by band (index in `bands`), strip by strip."""
    info = scene.info
    rows = max(ROWS, int(info.layout.get("blockysize", 0)) if info.layout.get("tiled") else 0)
    for row in range(0, info.height, rows):
        window = Window(row, 0, min(rows, info.height - row), info.width)
        dn = scene.read(window, bands)
        valid = sample_valid(dn, info, bands, data_mask(scene, window, bands))
        for channel in range(len(bands)):
            yield channel, _keys(dn[channel][valid[channel]])


def _keys(values: Array) -> Keys:
    """Unsigned 32-bit numbers in the order of `values`; those of 16 bits fill the upper half, doubles are rounded."""
    if values.dtype.kind == "f":
        largest = np.finfo(np.float32).max
        single = np.clip(values, -largest, largest).astype(np.float32)
        bits = (single + np.float32(0)).view(np.uint32)  # + 0 makes −0 a 0
        return np.where(bits & SIGN, ~bits, bits | SIGN)
    small = values.dtype.itemsize < 4
    keys = (values.astype(np.int64) - int(np.iinfo(values.dtype).min)).astype(np.uint32)
    return keys << np.uint32(16) if small else keys


def _number(key: np.uint32, dtype: np.dtype[Any]) -> float:
    """The number whose key is `key`."""
    if dtype.kind == "f":
        bits = key & ~SIGN if key & SIGN else ~key
        return float(np.array(bits, np.uint32).view(np.float32))
    whole = int(key) >> 16 if dtype.itemsize < 4 else int(key)
    return float(whole + int(np.iinfo(dtype).min))

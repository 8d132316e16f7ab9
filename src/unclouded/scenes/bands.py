"""What the channels of a model mean, and the only conversion between a scene's numbers (DN) and model range [0, 1].

A model is trained either on *display* imagery (8-bit pictures, 0–255) or on *reflectance* (0–1). Products come as
either, so there is one bridge between the two: the reflectance that the display value 255 stands for, 0.3558 by default
as in Sentinel-2's true-colour images (ESA, Sentinel-2 Products Specification: reflectance 0–0.3558 is stretched over
the 8 bits). 16-bit products are reflectance × 10000 unless the file's scale and offset, or the user, say otherwise.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from unclouded.errors import UncloudedError, UsageError

DISPLAY_MAX = 255.0
TCI_REFLECTANCE = 0.3558  # Sentinel-2 TCI: the reflectance shown as 255
REFLECTANCE_SCALE = 1e-4  # Sentinel-2, and most 16-bit surface reflectance: DN = reflectance × 10000
PLAUSIBLE_REFLECTANCE = 2.0  # bright clouds reach about 1.5; half of a scene above 2 is another unit
SMALL = 2.0**20  # ranges below this are exact enough in float32 for numbers of 16 bits
DARKEST_USEFUL = 0.02  # a scene whose brightest values stay below 2 % of the model's range is another unit

# Sentinel-1: the backscatter in dB that is 0 to a model; 0 dB is 1 (Meraner et al., ISPRS J. 2020, for SEN12MS-CR)
SAR_LOW = {"VV": -25.0, "VH": -32.5}

Array = NDArray[Any]


class DnRange(BaseModel):
    """Which DN of a scene are 0 and 1 to the model, for each model band; `low` > `high` is an inverted band."""

    model_config = ConfigDict(frozen=True)

    low: tuple[float, ...]
    high: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.low) != len(self.high):
            raise ValueError(f"{len(self.low)} low and {len(self.high)} high values")
        if not np.isfinite([*self.low, *self.high]).all() or any(
            a == b for a, b in zip(self.low, self.high, strict=True)
        ):
            raise ValueError(f"a range from {self.low} to {self.high} is empty or not finite")
        return self

    def _columns(self, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """low and high − low as [C, 1, 1], in the precision that holds every DN of `dtype`."""
        small = dtype.kind in "ui" and dtype.itemsize <= 2 and max(map(abs, (*self.low, *self.high))) < SMALL
        exact = np.float32 if small else np.float64
        low = np.array(self.low, np.float64)[:, None, None]
        span = np.array(self.high, np.float64)[:, None, None] - low
        return low.astype(exact), span.astype(exact)

    def to_model(self, dn: Array) -> NDArray[np.float32]:
        """DN [C, H, W], finite, of any dtype to float32 [C, H, W] in [0, 1]; what lies beyond the range is clipped."""
        low, span = self._columns(dn.dtype)
        x = dn.astype(low.dtype)
        x -= low
        x /= span
        return np.clip(x, 0.0, 1.0, out=x).astype(np.float32, copy=False)

    def from_model(self, x: Array, dtype: DTypeLike, nodata: float | None = None) -> Array:
        """Model values [C, H, W] to DN of `dtype`, rounded and clipped to it, never equal to `nodata`."""
        dtype = np.dtype(dtype)
        low, span = self._columns(dtype)
        dn = x.astype(low.dtype) * span + low
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            dn = np.clip(np.rint(dn), limits.min, limits.max)
        else:
            largest = np.finfo(dtype).max
            dn = np.clip(dn, -float(largest), float(largest))
        return avoid_nodata(dn.astype(dtype), nodata)

    def span_in_dn(self) -> NDArray[np.float32]:
        """|high − low| as float32 [C, 1, 1]: turns a spread in model units into DN."""
        return np.abs(np.array(self.high, np.float32) - np.array(self.low, np.float32))[:, None, None]


def backscatter(db: Array) -> NDArray[np.float32]:
    """Sentinel-1's VV and VH in dB [2, H, W] to float32 in [0, 1]; NaN (no echo) is 0."""
    low = tuple(SAR_LOW.values())
    return DnRange(low=low, high=(0.0,) * len(low)).to_model(np.nan_to_num(db, nan=min(low)))


class BandSet(BaseModel):
    """The bands of a model, in the order of its channels, and the values that are 0 and 1 to it.

    `low` and `high` are in `units`: "display" (8-bit picture values, 0–255) or "reflectance" (0–1).
    `reflectance_at_255` bridges the two, see the module.
    """

    model_config = ConfigDict(frozen=True)

    names: tuple[str, ...]
    low: tuple[FiniteFloat, ...]
    high: tuple[FiniteFloat, ...]
    units: Literal["display", "reflectance"] = "display"
    reflectance_at_255: FiniteFloat = TCI_REFLECTANCE

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.names or not len(self.names) == len(self.low) == len(self.high):
            raise ValueError(f"{len(self.names)} names, {len(self.low)} low and {len(self.high)} high values")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a band name appears twice in {', '.join(self.names)}")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low {self.low} is not below high {self.high} in every band")
        if not self.reflectance_at_255 > 0:
            raise ValueError(f"reflectance_at_255 = {self.reflectance_at_255} is not positive")
        return self

    @classmethod
    def display(cls, *names: str) -> Self:
        """Bands of 8-bit pictures, 0–255: `BandSet.display("red", "green", "blue")`."""
        return cls(names=names, low=(0.0,) * len(names), high=(DISPLAY_MAX,) * len(names), units="display")

    @classmethod
    def reflectance(cls, *names: str, high: float = 1.0) -> Self:
        """Bands of reflectance from 0 to `high`."""
        return cls(names=names, low=(0.0,) * len(names), high=(high,) * len(names), units="reflectance")

    def __len__(self) -> int:
        return len(self.names)

    def dn_range(
        self, dtype: DTypeLike, scales: Sequence[float] | None = None, offsets: Sequence[float] | None = None
    ) -> DnRange:
        """The DN of `dtype` that are 0 and 1 to the model, one pair per model band.

        With `scales` and `offsets` (one per model band) DN × scale + offset is reflectance. Without them, 8-bit DN are
        display values, other integers are reflectance × 10000, floats are reflectance.
        """
        dtype = np.dtype(dtype)
        n = len(self)
        if scales is None and dtype.kind in "ui" and dtype.itemsize == 1:
            to_dn = 1.0 if self.units == "display" else DISPLAY_MAX / self.reflectance_at_255
            return DnRange(low=tuple(v * to_dn for v in self.low), high=tuple(v * to_dn for v in self.high))
        if scales is None:
            scales = (REFLECTANCE_SCALE if dtype.kind in "ui" else 1.0,) * n
        offsets = (0.0,) * n if offsets is None else offsets
        to_reflectance = self.reflectance_at_255 / DISPLAY_MAX if self.units == "display" else 1.0

        def dn(values: Sequence[float]) -> tuple[float, ...]:
            return tuple((v * to_reflectance - o) / s for v, s, o in zip(values, scales, offsets, strict=True))

        return DnRange(low=dn(self.low), high=dn(self.high))

    def same_range(self, low: float, high: float) -> DnRange:
        """One DN range for all bands, as `--range LOW,HIGH` gives it. Raises UsageError for an empty one."""
        if not np.isfinite([low, high, high - low]).all() or low == high:
            raise UsageError(f"The range {low:g},{high:g} is empty. Give --range two different numbers, LOW,HIGH.")
        return DnRange(low=(low,) * len(self), high=(high,) * len(self))

    def to_model(self, dn: Array, dn_range: DnRange | None = None) -> NDArray[np.float32]:
        """DN [C, H, W] to float32 in [0, 1], by the default range of its dtype if none is given."""
        return (dn_range or self.dn_range(dn.dtype)).to_model(dn)

    def from_model(
        self, x: Array, dtype: DTypeLike, dn_range: DnRange | None = None, nodata: float | None = None
    ) -> Array:
        """Model values [C, H, W] in [0, 1] to DN of `dtype`, rounded, clipped, never `nodata`."""
        return (dn_range or self.dn_range(dtype)).from_model(x, dtype, nodata)


def avoid_nodata(dn: Array, nodata: float | None) -> Array:
    """`dn` with every value that equals `nodata` moved to its neighbour, so that a valid pixel stays valid."""
    if nodata is None or np.isnan(nodata):
        return dn
    hit = dn == dn.dtype.type(nodata) if fits(nodata, dn.dtype) else np.zeros(dn.shape, bool)
    if hit.any():
        dn[hit] = _neighbour(nodata, dn.dtype)
    return dn


def fits(value: float, dtype: DTypeLike) -> bool:
    """Whether `value` can be a number of `dtype` (a nodata of −9999 cannot be one of uint8)."""
    dtype = np.dtype(dtype)
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return bool(np.isfinite(value)) and limits.min <= value <= limits.max and float(value).is_integer()
    return not np.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)


def _neighbour(nodata: float, dtype: np.dtype[Any]) -> Any:
    """The value next to `nodata` on the side of the middle of the dtype's range."""
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        middle = (int(limits.min) + int(limits.max)) // 2
        return int(nodata) + 1 if int(nodata) <= middle else int(nodata) - 1
    value = dtype.type(nodata)
    return np.nextafter(value, dtype.type(0)) if value != 0 else np.finfo(dtype).smallest_normal


def check_fit(dn_range: DnRange, bands: BandSet, quantiles: Array, dtype: DTypeLike) -> None:
    """Refuse a scene whose numbers are evidently in another unit than `dn_range` assumes.

    `quantiles` [3, C]: median, 99.5 % quantile and maximum of the valid DN per model band. Raises UncloudedError that
    says what was seen and what mends it. 8-bit scenes always fit.
    """
    dtype = np.dtype(dtype)
    if dtype.itemsize == 1:
        return
    median, top, largest = (np.asarray(q, np.float64) for q in quantiles)
    low, high = np.array(dn_range.low), np.array(dn_range.high)
    reflectance = bands.reflectance_at_255 / DISPLAY_MAX if bands.units == "display" else 1.0
    bright = PLAUSIBLE_REFLECTANCE / (reflectance * np.array(bands.high))  # in model units
    if not np.any(quantiles):
        raise UncloudedError(
            "The scene is black: the numbers in the bands to restore are 0. If 0 stands for missing data, declare "
            "it with gdal_edit.py -a_nodata 0; else choose other bands with --bands, or say with --range LOW,HIGH "
            "which numbers are black and white."
        )
    if dtype.kind in "ui" and largest.max() <= DISPLAY_MAX < high.min():
        raise _misfit(quantiles, dn_range, "that looks like 8-bit values", "0,255")
    if ((median - low) / (high - low) > bright).all():
        raise _misfit(quantiles, dn_range, "most pixels are brighter than any cloud", f"0,{top.max():.6g}")
    if ((top - low) / (high - low)).max() < DARKEST_USEFUL:
        raise _misfit(quantiles, dn_range, "the scene would be black", f"0,{top.max():.6g}")


def _misfit(quantiles: Array, dn_range: DnRange, why: str, example: str) -> UncloudedError:
    seen = f"median {np.median(quantiles[0]):.6g}, 99.5 % below {np.max(quantiles[1]):.6g}"
    expected = f"{min(dn_range.low):.6g} to {max(dn_range.high):.6g}"
    return UncloudedError(
        f"The scene's numbers ({seen}) do not fit the range {expected} that the model expects: {why}. "
        f"Say which numbers are black and white with --range LOW,HIGH, for example --range {example}."
    )

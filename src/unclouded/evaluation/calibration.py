"""Whether the spread of several samples says how wrong the mean is, and the factor per band that makes "±" mean
something.

All of it on a validation list: |error| of the mean against the standard deviation over the samples, pixel by pixel.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError, UsageError

Array = NDArray[Any]
LEVELS = (0.5, 0.6827, 0.8, 0.9, 0.95)  # nominal coverage of ± z·spread; 0.6827 is one standard deviation
SMALLEST = 1e-6  # spread below this, of [0, 1], is no spread


class Reliability(NamedTuple):
    """Pixels in bins of equal count by their spread: root mean square of the spread and of the error in each."""

    spread: list[float]
    error: list[float]


class Calibration(NamedTuple):
    """What `Calibrator.result` found, per band and (rank correlation, reliability) over all."""

    pixels: int
    scale: list[float]  # factor per band for the spread
    rank_correlation: float  # Spearman's, between the spread so scaled and |error|
    rank_correlation_within: float  # the same within an image, mean over the images
    coverage: dict[str, list[float]]  # nominal level -> share of pixels inside, per band, as sampled
    coverage_scaled: dict[str, list[float]]  # the same after scaling
    coverage_held_out: dict[str, list[float]]  # each half of the images scaled by the other's fit; {} for one image
    coverage_apart: dict[str, float]  # so scaled, of all bands at `level`: of the pixels under cloud, and beside it
    reliability: Reliability

    def as_json(self) -> dict[str, Any]:
        return self._asdict() | {"reliability": self.reliability._asdict()}


class Calibrator:
    """Collects pixels of restored images, at most `per_image` evenly spaced ones of each."""

    def __init__(self, per_image: int = 4096) -> None:
        self.per_image = per_image
        self._errors: list[Array] = []
        self._spreads: list[Array] = []
        self._cloudy: list[Array] = []

    def feed(self, restored: Array, clear: Array, spread: Array, cloudy: Array | None = None) -> None:
        """restored, clear, spread [C, H, W] in units of [0, 1]; `cloudy` [H, W] says which pixels were under cloud."""
        bands = len(clear)
        step = max(1, clear[0].size // self.per_image)
        self._errors.append(np.abs(restored - clear).reshape(bands, -1)[:, ::step].astype(np.float64))
        self._spreads.append(spread.reshape(bands, -1)[:, ::step].astype(np.float64))
        if cloudy is not None:
            self._cloudy.append(np.broadcast_to(cloudy.reshape(1, -1)[:, ::step], self._errors[-1].shape))

    def result(self, level: float = 0.6827, levels: Sequence[float] = LEVELS, bins: int = 10) -> Calibration:
        """Fit each band's factor so that ± factor·spread·z(level) holds the share `level` of the pixels, and report."""
        if not self._errors:
            raise UsageError("Calibration was given no images. Feed it restored images with their spread.")
        error, spread = self._pixels(slice(None))
        if spread.max() < SMALLEST:
            raise UncloudedError(
                "The samples do not differ, so there is no spread to calibrate. Use --samples 4 or more."
            )
        scale = fit_scale(error, spread, level)
        scaled = spread * scale[:, None]
        return Calibration(
            pixels=error.size,
            scale=scale.tolist(),
            rank_correlation=rank_correlation(scaled.ravel(), error.ravel()),
            rank_correlation_within=self._rank_within(scale),
            coverage={f"{nominal:g}": coverage(error, spread, nominal).tolist() for nominal in levels},
            coverage_scaled={f"{nominal:g}": coverage(error, scaled, nominal).tolist() for nominal in levels},
            coverage_held_out=self._held_out(level, levels),
            coverage_apart=self._apart(level),
            reliability=reliability(error.ravel(), scaled.ravel(), bins),
        )

    def _pixels(self, images: slice) -> tuple[Array, Array]:
        """|error| and spread of some of the images, [C, n]."""
        return np.concatenate(self._errors[images], axis=1), np.concatenate(self._spreads[images], axis=1)

    def _rank_within(self, scale: Array) -> float:
        scaled = (spread * scale[:, None] for spread in self._spreads)
        each = [rank_correlation(s.ravel(), e.ravel()) for s, e in zip(scaled, self._errors, strict=True)]
        known = [rank for rank in each if np.isfinite(rank)]
        return float(np.mean(known)) if known else float("nan")

    def _held_out(self, level: float, levels: Sequence[float]) -> dict[str, list[float]]:
        if len(self._errors) < 2:
            return {}
        error, spread = self._scaled_by_the_other_half(level)
        return {f"{nominal:g}": coverage(error, spread, nominal).tolist() for nominal in levels}

    def _apart(self, level: float) -> dict[str, float]:
        if len(self._errors) < 2 or len(self._cloudy) < len(self._errors):
            return {}
        error, spread = (part.reshape(1, -1) for part in self._scaled_by_the_other_half(level))
        cloudy = np.concatenate([*self._cloudy[::2], *self._cloudy[1::2]], axis=1).reshape(-1)
        parts = {"cloudy": cloudy, "clear": ~cloudy}
        return {name: float(coverage(error[:, m], spread[:, m], level)[0]) for name, m in parts.items() if m.any()}

    def _scaled_by_the_other_half(self, level: float) -> tuple[Array, Array]:
        """|error| and spread [C, n], first of the even images, then of the odd ones."""
        halves = self._pixels(slice(0, None, 2)), self._pixels(slice(1, None, 2))
        scaled = [
            (error, spread * fit_scale(*other, level)[:, None])
            for (error, spread), other in zip(halves, reversed(halves), strict=True)
        ]
        error, spread = (np.concatenate(parts, axis=1) for parts in zip(*scaled, strict=True))
        return error, spread


def fit_scale(error: Array, spread: Array, level: float = 0.6827) -> Array:
    """[C, n] -> [C]: the factor s for which |error| ≤ s·spread·z holds at the share `level` of each band's pixels, z
    being the normal quantile of that level. One parameter a band; a rank statistic, so single large errors do not set
    it."""
    z = _quantile(level)
    return np.asarray(np.quantile(error / np.maximum(spread, SMALLEST), level, axis=1) / z)


def coverage(error: Array, spread: Array, level: float) -> Array:
    """[C, n] -> [C]: share of pixels whose |error| lies within the interval that should hold the share `level`."""
    return np.asarray((error <= _quantile(level) * np.maximum(spread, SMALLEST)).mean(axis=1))


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise UsageError(f"A coverage level lies between 0 and 1, not {level}. Use 0.9, for example.")
    return NormalDist().inv_cdf((1 + level) / 2)


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's ρ: correlation of the ranks, ties sharing their mean rank. NaN if either is constant."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / norm) if norm > 0 else float("nan")


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def reliability(error: Array, spread: Array, bins: int = 10) -> Reliability:
    """Bins of equal count by spread; for a calibrated spread the two root mean squares are equal in each."""
    order = np.argsort(spread, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]

    def rms(x: Array) -> list[float]:
        return [float(np.sqrt((x[group] ** 2).mean())) for group in groups]

    return Reliability(rms(spread), rms(error))


def plot(calibration: Calibration, path: Path) -> None:
    """The reliability diagram as a picture: error over spread, with the diagonal of perfect calibration."""
    try:
        from matplotlib.figure import Figure
    except ImportError as reason:
        raise UsageError("Plots need matplotlib. Install it with: pip install 'unclouded[plot]'.") from reason
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.add_subplot()
    spread, error = calibration.reliability
    top = 1.05 * max(*spread, *error)
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, label="calibrated")
    axes.plot(spread, error, marker="o", label="measured")
    axes.set(
        xlabel="spread after scaling (RMS, of [0, 1])", ylabel="error (RMS, of [0, 1])", xlim=(0, top), ylim=(0, top)
    )
    axes.legend(loc="upper left")
    axes.set_title(f"rank correlation {calibration.rank_correlation:.2f}")
    figure.savefig(path, dpi=150)

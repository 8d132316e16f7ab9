"""How sure a mean over images is, and whether one method beats another on the same images. All seeded."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from unclouded.errors import UsageError


class Interval(NamedTuple):
    """A mean and its bootstrap confidence interval."""

    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Mean of (first − second) over the same images, its interval, and the two-sided p-value of a sign-flip test."""

    difference: float
    low: float
    high: float
    p_value: float


def bootstrap(values: ArrayLike, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean of the finite values with the percentile interval of Efron's bootstrap over images; NaN if there are
    none."""
    return bootstrap_ratio(values, np.ones(np.shape(values)), confidence, resamples, seed)


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Sum of the numerators over sum of the denominators, with the interval of a bootstrap over the images."""
    parts = np.stack([np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)])
    parts = parts[:, np.isfinite(parts).all(axis=0)]
    n = parts.shape[1]
    if not n or parts[1].sum() == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    above, below = parts[:, np.random.default_rng(seed).integers(n, size=(resamples, n))].sum(axis=2)
    tail = (1 - confidence) / 2
    drawn = np.divide(above, below, out=np.full(resamples, np.nan), where=below != 0)
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Interval(float(parts[0].sum() / parts[1].sum()), float(low), float(high))


def compare(first: ArrayLike, second: ArrayLike, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Paired test of two methods' values on the same images, in the same order.

    Under the null hypothesis each difference is as likely to have the other sign; the p-value is the share of random
    sign patterns (and the observed one) whose mean is at least as far from 0.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise UsageError(f"A paired test needs the same images: {a.size} and {b.size} values were given. Align them.")
    difference = (a - b)[np.isfinite(a - b)]
    interval = bootstrap(difference, seed=seed)
    if not len(difference):
        return Comparison(*interval, p_value=float("nan"))
    rng = np.random.default_rng(seed)
    flipped = (rng.choice([-1.0, 1.0], size=(resamples, len(difference))) * difference).mean(axis=1)
    extreme = np.abs(flipped) >= abs(interval.mean) * (1 - 1e-12)
    return Comparison(*interval, p_value=float((1 + extreme.sum()) / (1 + resamples)))

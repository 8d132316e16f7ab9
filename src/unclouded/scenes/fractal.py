"""Seeded fractal fields: Gaussian noise with a power-law spectrum, the raw material of clouds and landscapes.

Fields are periodic in both directions, so a roll is an exact shift; callers that must not show the period crop.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 unless said otherwise


def fast_size(n: int) -> int:
    """Smallest even size >= max(n, 8) of the form 2^a 3^b 5^c, for which the FFT is quick."""
    size = max(n + n % 2, 8)
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2


@lru_cache(maxsize=8)
def _frequencies(height: int, width: int) -> tuple[Array, Array]:
    """Cycles per pixel down the rows [height, 1] and along the columns [1, width // 2 + 1]."""
    rows = np.fft.fftfreq(height).astype(np.float32)[:, None]
    cols = np.fft.rfftfreq(width).astype(np.float32)[None, :]
    return rows, cols


def fractal(
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    outer: float,
    slope: float = 1.7,
    inner: float = 0.0,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Array:
    """A periodic Gaussian random field with zero mean and unit variance, float32 [height, width].

    The amplitude spectrum is flat for wavelengths above `outer` pixels and falls as k^-slope below it (slope 1: rough,
    2: smooth); below `inner` pixels it is cut off. `stretch` > 1 draws the features out along `angle` (radians,
    from the columns' axis towards increasing rows). height and width should come from `fast_size`.
    """
    rows, cols = _frequencies(height, width)
    if stretch != 1.0:
        along = np.cos(angle) * cols + np.sin(angle) * rows
        across = np.cos(angle) * rows - np.sin(angle) * cols
        k2 = (along * stretch) ** 2 + across**2
    else:
        k2 = rows**2 + cols**2
    amplitude = (k2 + (1.0 / max(outer, 2.0)) ** 2) ** np.float32(-slope / 2)
    if inner > 0:
        amplitude *= np.exp(-k2 * inner**2)
    amplitude[0, 0] = 0
    noise = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    field = np.fft.irfft2((noise[0] + 1j * noise[1]) * amplitude, s=(height, width)).astype(np.float32)
    return field / max(float(field.std()), 1e-12)


def blur(field: Array, sigma: float) -> Array:
    """Periodic Gaussian blur of a field [H, W] with even sizes, sigma in pixels; 0 returns it unchanged."""
    if sigma <= 0:
        return field
    rows, cols = _frequencies(*field.shape)
    gain = np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + cols**2))
    return np.fft.irfft2(np.fft.rfft2(field) * gain, s=field.shape).astype(np.float32)

"""How far one scene lies from another: phase correlation with sub-pixel shift, on blocks that must agree.

Kuglin and Hines 1975 (phase correlation); Guizar-Sicairos et al. 2008 (refinement by an upsampled Fourier transform
around the peak). A shift (rows, cols) means moving(r + rows, c + cols) = fixed(r, c).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError
from unclouded.scenes.tiles import Window

Float = NDArray[np.float64]
BLOCK, BLOCKS = 512, 4  # side of a block; at most this many along an axis
SMALLEST = 48
CUTOFF = 0.1  # cycles per pixel: finer detail is aliased and resampled, and biased by up to 0.2 pixels in trials
NEAR = 8  # pixels around the peak that belong to it
AGREE = 0.5  # pixels by which the blocks of a good match may differ from their median
RESIDUAL = 0.25  # pixels of shift that may be left over

ReadPair = Callable[[Window, tuple[float, float]], tuple[Float, Float] | None]


class Shift(NamedTuple):
    """A shift in pixels of `fixed`, and how far its peak stands above the rest in standard deviations.

    Images that have nothing in common reach 5 to 9.
    """

    rows: float
    cols: float
    peak: float


class Match(NamedTuple):
    """The shift of a whole scene."""

    rows: float
    cols: float
    peak: float  # median of the blocks that agree
    blocks: int
    agreeing: int
    residual: float  # pixels of shift left after it was applied


def phase_correlation(fixed: Float, moving: Float) -> Shift:
    """The shift between two images [H, W] of one size, to about 0.02 pixels where nothing else differs."""
    height, width = fixed.shape
    taper = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    spectra = [np.fft.fft2((image - image.mean()) * taper) for image in (fixed, moving)]
    cross = np.conj(spectra[0]) * spectra[1]
    rows, cols = (np.fft.fftfreq(size).astype(np.float64) for size in (height, width))
    smooth = np.exp(-(rows[:, None] ** 2 + cols[None, :] ** 2) / (2 * CUTOFF**2))
    size = np.abs(cross)
    cross = smooth * cross / np.maximum(size, size.max() * 1e-12 + np.finfo(float).tiny)
    surface = np.fft.ifft2(cross).real
    row, col = np.unravel_index(np.argmax(surface), surface.shape)
    around = _within(height, NEAR, int(row))[:, None] & _within(width, NEAR, int(col))[None, :]
    rest = surface[~around]
    peak = float((surface[row, col] - rest.mean()) / max(float(rest.std()), np.finfo(float).tiny))
    at = (_signed(int(row), height), _signed(int(col), width))
    for step in (0.1, 0.01):
        at = _refined(cross, rows, cols, at, step)
    return Shift(at[0], at[1], peak)


def _signed(index: int, size: int) -> float:
    return float((index + size // 2) % size - size // 2)


def _within(size: int, reach: float, centre: int) -> NDArray[np.bool_]:
    """Which indexes of a periodic axis are at most `reach` from `centre`."""
    distance = np.abs(np.arange(size) - centre)
    within: NDArray[np.bool_] = np.minimum(distance, size - distance) <= reach
    return within


def _refined(
    cross: NDArray[np.complex128], rows: Float, cols: Float, at: tuple[float, float], step: float
) -> tuple[float, float]:
    """The highest point of the correlation among the multiples of `step` within 15 steps of `at`."""
    offsets = step * np.arange(-15, 16)
    down = np.exp(2j * np.pi * np.outer(at[0] + offsets, rows))
    across = np.exp(2j * np.pi * np.outer(cols, at[1] + offsets))
    row, col = np.unravel_index(np.argmax((down @ cross @ across).real), (len(offsets), len(offsets)))
    return float(at[0] + offsets[row]), float(at[1] + offsets[col])


def blocks(height: int, width: int) -> list[Window]:
    """Up to 4 × 4 blocks spread over a scene. Raises UncloudedError if it is too small for one."""
    side = min(BLOCK, height, width)
    if side < SMALLEST:
        raise UncloudedError(
            f"The scenes share {width} × {height} pixels, too few to align them. "
            f"Give scenes that share at least {SMALLEST} × {SMALLEST}."
        )

    def firsts(size: int) -> list[int]:
        count = min(BLOCKS, max(1, size // side))
        return [round(k) for k in np.linspace(0, size - side, count)] if count > 1 else [(size - side) // 2]

    return [Window(row, col, side, side) for row in firsts(height) for col in firsts(width)]


def match(
    read: ReadPair, height: int, width: int, *, max_shift: float, least_peak: float, names: tuple[str, str]
) -> Match:
    """The shift between two scenes of which `read(window, shift)` gives (fixed, moving) [h, w], moving already shifted.

    Measured, applied, and measured again until nothing is left. Raises UncloudedError for a match that cannot be
    trusted: no clear peak, blocks that contradict each other, or a shift that does not settle.
    """
    windows = blocks(height, width)
    rows = cols = residual = 0.0
    first: Shift | None = None
    agreeing: list[Shift] = []
    measured = 0
    for attempt in range(3):
        reach = max_shift if attempt == 0 else 2.0
        pairs = [pair for window in windows if (pair := read(window, (rows, cols))) is not None]
        shifts = [phase_correlation(*pair) for pair in pairs]
        found, agreeing, measured = _agreed(shifts, least_peak, reach, names)
        first = first or found
        residual = float(np.hypot(found.rows, found.cols))
        if attempt == 2:
            break
        rows, cols = rows + found.rows, cols + found.cols
    if residual > RESIDUAL or first is None:
        raise UncloudedError(
            f"{names[1]} is off {names[0]} by {residual:.2f} pixels even after it was moved. "
            "Orthorectify the scenes alike, or leave the place out."
        )
    return Match(rows, cols, float(np.median([s.peak for s in agreeing])), measured, len(agreeing), residual)


def _agreed(
    shifts: Sequence[Shift], least_peak: float, reach: float, names: tuple[str, str]
) -> tuple[Shift, list[Shift], int]:
    """The median shift of the blocks that have a clear peak and agree, those blocks, and how many were measured."""
    clear = [shift for shift in shifts if shift.peak >= least_peak]
    if not clear:
        best = max((shift.peak for shift in shifts), default=0.0)
        raise UncloudedError(
            f"{names[1]} does not match {names[0]}: the correlation peak is {best:.1f} where {least_peak:g} is asked. "
            "Check that both show one place, lower --least-peak, or leave the place out."
        )
    near = [shift for shift in clear if max(abs(shift.rows), abs(shift.cols)) <= reach]
    if not near:
        raise UncloudedError(
            f"{names[1]} is off {names[0]} by {clear[0].rows:.1f} pixels down and {clear[0].cols:.1f} right, and at "
            f"most {reach:g} are allowed. Correct its grid, raise --max-shift, or leave the place out."
        )
    clear = near
    median = np.median([shift[:2] for shift in clear], axis=0)
    agreeing = [shift for shift in clear if np.hypot(*(np.array(shift[:2]) - median)) <= AGREE]
    if 2 * len(agreeing) <= len(clear):
        raise UncloudedError(
            f"{names[1]} matches {names[0]} with other shifts in other parts ({len(agreeing)} of {len(clear)} blocks "
            "agree). Orthorectify the scenes alike, or leave the place out."
        )
    rows, cols, peak = (float(v) for v in np.median([tuple(shift) for shift in agreeing], axis=0))
    return Shift(rows, cols, peak), agreeing, len(shifts)


def as_image(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> Float | None:
    """What is correlated: the mean of the bands [C, H, W], the level of the data where there is none.

    None where less than half is data, or all is of one value.
    """
    if valid.mean() < 0.5:
        return None
    image: Float = pixels.astype(np.float64).mean(axis=0)
    image[~valid] = image[valid].mean()
    return image if image.std() > 0 else None

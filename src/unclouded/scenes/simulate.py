"""Clouds over a clear image, seeded: thin veil and haze, cumulus with self-shading, shadows thrown by the sun.

Layers from the ground up: cloudy = (1 - T) * (clear * shade) + T * airlight, with T per band from one opacity. Where
opacity and shadow are 0 the clear values come back bit for bit. Fast enough to feed training (about 20 ms for
256 x 256 x 3 on one core).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from unclouded.errors import UsageError
from unclouded.scenes import spectra
from unclouded.scenes.fractal import Array, blur, fast_size, fractal

Kind = Literal["thin", "thick", "shadow", "mixed"]
KINDS: tuple[str, ...] = get_args(Kind)


class CloudySample(NamedTuple):
    """A simulated observation: cloudy [C, H, W] in [0, 1]; opacity and shadow [H, W] in [0, 1] (0: none)."""

    cloudy: Array
    opacity: Array
    shadow: Array


@dataclass(frozen=True)
class Sun:
    """Where the light comes from, in degrees: azimuth clockwise from north (up), elevation above the horizon."""

    azimuth: float
    elevation: float

    @property
    def towards(self) -> tuple[float, float]:
        """Unit vector (row, col) in the image that points to the sun."""
        turn = np.deg2rad(self.azimuth)
        return -float(np.cos(turn)), float(np.sin(turn))

    def shadow_offset(self, height: float, gsd: float) -> tuple[int, int]:
        """Pixels (row, col) from a cloud at `height` metres to its shadow, with `gsd` metres per pixel."""
        length = height / np.tan(np.deg2rad(self.elevation)) / gsd
        row, col = self.towards
        return round(-row * length), round(-col * length)


class _Cumulus(NamedTuple):
    opacity: Array  # [h, w] of the periodic canvas
    brightness: Array  # relative, 1 = the lit top


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _veil(rng: np.random.Generator, shape: tuple[int, int], gsd: float, coverage: float | None) -> Array:
    """Relative thickness of haze, stratus or cirrus, [h, w] in [0, 1]: from an even film to torn fibres."""
    fibrous = rng.random() < 0.3
    outer = _log_uniform(rng, 1500, 12000) / gsd
    stretch, angle = (_uniform(rng, 2, 6) if fibrous else 1.0), _uniform(rng, 0, np.pi)
    field = fractal(rng, *shape, outer=outer, slope=_uniform(rng, 1.5, 2.1), stretch=stretch, angle=angle)
    if coverage is None:
        coverage = _uniform(rng, 0.2, 0.9) if rng.random() < 0.5 else 1.0
    if coverage < 1.0:  # torn: clear sky where the field is low, thickening without a plateau
        edge = np.quantile(field, 1 - coverage)
        excess = np.maximum(field - edge, 0) / _uniform(rng, 0.6, 1.6)
        return np.asarray(1 - np.exp(-(excess ** _uniform(rng, 1.0, 1.6))), np.float32)
    relief = _uniform(rng, 0.0, 1.0) ** 2
    return np.asarray(1 - relief * (1 - 1 / (1 + np.exp(-1.5 * field))), np.float32)


def _cumulus(rng: np.random.Generator, shape: tuple[int, int], gsd: float, coverage: float, sun: Sun) -> _Cumulus:
    """Thresholded fractal cells with billows on top, soft rims, and light and dark sides along the sun's direction."""
    outer = max(_log_uniform(rng, 400, 6000) / gsd, 24)
    cells = fractal(rng, *shape, outer=outer, slope=_uniform(rng, 1.6, 2.0))
    billow = 0.8 - np.abs(fractal(rng, *shape, outer=max(outer / 2, 8), slope=1.6))
    density = cells - np.quantile(cells, 1 - coverage) if coverage < 1 else cells - cells.min()
    texture = np.clip(1 + 0.5 * billow, 0.15, None)
    depth = np.maximum(density, 0) ** _uniform(rng, 1.0, 1.6) * texture * _log_uniform(rng, 0.8, 10)
    opacity = 1 - np.exp(-1.5 * depth)
    top = np.sqrt(np.minimum(depth, 16)) + 0.3 * billow
    step = float(np.clip(outer / 30, 1.0, 5.0))
    row, col = sun.towards
    ahead = np.roll(top, (-round(row * step), -round(col * step)), axis=(0, 1))
    relief = np.tanh((top - ahead) * 1.5 / step) * _uniform(rng, 0.15, 0.5) * np.cos(np.deg2rad(sun.elevation))
    core = 1 - _uniform(rng, 0.1, 0.45) * np.exp(-depth * 0.6)
    brightness = np.clip(core * (1 + relief) * (1 + 0.08 * billow), 0.25, 1.3)
    return _Cumulus(opacity.astype(np.float32), brightness.astype(np.float32))


def _transmit(image: Array, opacity: Array, airlight: Array, exponent: Array) -> Array:
    """Lay a layer over an image: each band loses T = 1 - (1 - opacity)^exponent and gains T * airlight."""
    for band in range(image.shape[0]):
        power = float(exponent[band])
        through = 1 - opacity if abs(power - 1) < 1e-3 else (1 - opacity) ** np.float32(power)
        image[band] *= through
        image[band] += (1 - through) * (airlight[band] if airlight.ndim == 3 else airlight)
    return image


def _check(clear: Array, kind: str, bands: Sequence[str], ranges: dict[str, float | None]) -> None:
    if clear.ndim != 3 or clear.shape[0] != len(bands):
        raise UsageError(
            f"The image has shape {clear.shape} but {len(bands)} bands are named. Give [C, H, W] and C names."
        )
    if kind not in KINDS:
        raise UsageError(f"The cloud kind {kind!r} is unknown. Use one of {', '.join(KINDS)}.")
    for name, value in ranges.items():
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{name} is {value}, outside 0 to 1. Give a share between 0 and 1.")


def simulate_clouds(
    clear: Array,
    rng: np.random.Generator,
    *,
    kind: Kind = "mixed",
    bands: Sequence[str] = ("red", "green", "blue"),
    gsd: float | None = None,
    coverage: float | None = None,
    opacity: float | None = None,
    brightness: float | None = None,
    sun: Sun | None = None,
    height: float | None = None,
) -> CloudySample:
    """Put clouds over a clear image; what is not given is drawn from wide distributions with `rng`.

    clear       float32 [C, H, W] in [0, 1], any size >= 1; NaN stays NaN. Not modified.
    kind        thin: veil or haze; thick: cumulus; shadow: cumulus that throw shadows; mixed: all of these
    bands       what the C bands are (`spectra.wavelengths`); false colour is another choice of names
    gsd         ground sample distance in metres per pixel (0.5 to 30 when drawn): the size of clouds in pixels
    coverage    share of the area that each cloud layer touches; 0: none
    opacity     largest opacity of the veil, and a factor on that of cumulus; 0: nothing happens
    brightness  reflectance of a deep cloud in the visible
    sun, height direction of light; metres of the cloud deck above ground (the shadow's distance)

    Raises UsageError for an unknown kind or band and for shares outside 0 to 1.
    """
    _check(clear, kind, bands, {"coverage": coverage, "opacity": opacity, "brightness": brightness})
    nm = spectra.wavelengths(bands)
    rows, cols = clear.shape[1:]
    gsd = gsd if gsd is not None else _log_uniform(rng, 0.5, 30)
    sun = sun or Sun(_uniform(rng, 0, 360), _uniform(rng, 25, 75))
    margin = max(rows, cols) // 4  # clouds outside the frame throw their shadows into it
    canvas = fast_size(rows + margin), fast_size(cols + margin)
    image = np.array(clear, dtype=np.float32)
    nothing = np.zeros((rows, cols), np.float32)
    thin, shadow, thick = nothing, nothing, nothing

    cumulus = None
    if kind != "thin" and coverage != 0 and opacity != 0:
        share = coverage if coverage is not None else float(np.clip(rng.beta(1.3, 1.8), 0.03, 1.0))
        cumulus = _cumulus(rng, canvas, gsd, share, sun)
        thick = cumulus.opacity[:rows, :cols] * np.float32(1 if opacity is None else opacity)
    if cumulus is not None and kind != "thick":
        shadow = _shadow(rng, cumulus.opacity, sun, height, gsd)[:rows, :cols]
        shadow = shadow * np.float32(_uniform(rng, 0.6, 1.0) if opacity is None else opacity)
        image *= 1 - shadow * (1 - spectra.skylight(nm))[:, None, None]
    if kind in ("thin", "mixed") and coverage != 0 and opacity != 0:
        thin = _veil(rng, canvas, gsd, coverage)[:rows, :cols] * np.float32(_veil_opacity(rng, kind, opacity))
        image = _lay_veil(rng, image, thin, nm, brightness)
    if cumulus is not None:
        white = brightness if brightness is not None else _uniform(rng, 0.75, 1.08)
        tint = (spectra.cloud_reflectance(nm) * white * rng.uniform(0.97, 1.03, len(nm))).astype(np.float32)
        airlight = tint[:, None, None] * cumulus.brightness[:rows, :cols]
        image = _transmit(image, thick, airlight, np.ones(len(nm), np.float32))
    return CloudySample(np.clip(image, 0, 1, out=image), 1 - (1 - thin) * (1 - thick), shadow)


def _shadow(rng: np.random.Generator, opacity: Array, sun: Sun, height: float | None, gsd: float) -> Array:
    """Share of direct light that the canvas' clouds take away, [h, w]: their opacity, displaced and softened."""
    height = height if height is not None else _log_uniform(rng, 300, 4000)
    row, col = sun.shadow_offset(height, gsd)
    if max(abs(row), abs(col)) > max(opacity.shape) // 2:  # far outside the frame: any cloud field is as likely
        row, col = row % opacity.shape[0], col % opacity.shape[1]
    shadow = np.roll(opacity, (row, col), axis=(0, 1))
    penumbra = height * np.deg2rad(0.53) / gsd / 2  # the sun is half a degree wide
    if penumbra < 0.3:
        return shadow
    soft = blur(shadow, min(penumbra, 8.0))
    soft[soft < 1e-3] = 0  # the FFT's rounding must not touch open ground
    return np.minimum(soft, 1)


def _veil_opacity(rng: np.random.Generator, kind: str, opacity: float | None) -> float:
    if opacity is not None:
        return opacity
    return _uniform(rng, 0.1, 0.85) if kind == "thin" else _uniform(rng, 0.0, 0.5)


def _lay_veil(rng: np.random.Generator, image: Array, thin: Array, nm: Array, brightness: float | None) -> Array:
    """Haze scatters blue most (Ångström's law), thin cloud all bands alike; its light is grey to white."""
    angstrom = 1.4 * rng.random() ** 2
    white = brightness if brightness is not None else 0.35 + 0.65 * float(rng.beta(1.2, 2.0))
    tint = white * (nm / spectra.REFERENCE) ** np.float32(-0.12 * angstrom) * spectra.cloud_reflectance(nm)
    airlight = np.broadcast_to(tint.astype(np.float32)[:, None, None], image.shape)
    return _transmit(image, thin, airlight, spectra.haze_exponent(nm, angstrom))

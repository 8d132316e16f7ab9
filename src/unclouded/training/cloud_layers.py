"""Clouds of real pairs, lifted off their ground and laid over another: few pairs become many (ours).

A cloudy image is taken as y = a·x + b, with x the clear one, a the transmission and b the light that the cloud adds. A
network that meets the same ground under the same cloud in each epoch learns both by heart; this parts them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

Array = NDArray[np.float32]

RADIUS = 10  # of the windows in which y is regressed on x
SEEN = 0.9  # correlation of y with x, both less their local means, above which the ground is seen through the cloud
DAMPING = 2e-4  # variance of x below which a window says little of a, so that it takes that of the image
OPAQUE = (0.1, 0.4)  # opacity at which another day's cloud begins to count, and at which it counts wholly
CLOUD_WHITE = 0.5  # a cloud's brightest pixels are at least this
EDGE = 1.5  # sigma of the smoothing of an opacity from brightness
BLACK, WHITE = 3, 5  # at most so many per cent of the pixels a harder contrast makes black and white
LEAST_SPAN, GAMMA = 0.2, 0.2  # between both, of [0, 1]; deviation of gamma's logarithm
BRIGHTNESS, TINT, SATURATION = 0.15, 0.07, 0.2  # deviations of the logarithms by which a ground's colours vary
THINNER, THICKER = 0.5, 2.0  # powers of its transmission between which a cloud varies


class CloudLayer(NamedTuple):
    """transmission [1, H, W] in [0, 1], light [C, H, W] up to 1, below 0 where the cloud darkens.

    `seen_through`: a veil over the very same ground, which belongs over a clear image. Otherwise the layer holds the
    thicker parts alone, without what else differed between the two days, and may be laid over a cloudy image, too.
    """

    transmission: Array
    light: Array
    seen_through: bool

    def seen_in(self, own: Sequence[str], bands: Sequence[str]) -> "CloudLayer":
        """The layer of the bands `own` in others: a cloud is about as bright in any further one as in the first."""
        return self._replace(light=self.light[[own.index(band) if band in own else 0 for band in bands]])

    def over(self, ground: Array) -> Array:
        """The ground [C, H, W] in [0, 1] under this layer."""
        return np.asarray(np.clip(self.transmission * ground + self.light, 0, 1), dtype=np.float32)

    def times(self, thickness: float) -> "CloudLayer":
        """So many times as thick a cloud of the same colour: the transmission to that power (Beer and Lambert), and the
        light of an opaque cloud by what is not transmitted."""
        a = self.transmission
        thicker = a**thickness
        opaque = np.where(a < 1 - 1e-3, (1 - thicker) / np.maximum(1 - a, 1e-3), thickness)
        return self._replace(transmission=thicker, light=self.light * opaque)


def recoloured(cloudy: Array, clear: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A pair as it would be if the ground had other colours under the same cloud: y′ = y + a·(x′ − x), where the ground
    of another day is what y shows of it."""
    layer, other = cloud_layer(cloudy, clear), other_colours(len(clear), rng)
    ground = clear if layer.seen_through else cloudy
    changed = cloudy + layer.transmission * (other(ground) - ground)
    return np.clip(changed, 0, 1).astype(np.float32), other(clear)


def other_colours(bands: int, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Changes the brightness, tint and saturation of images [bands, H, W] in [0, 1], each by what is drawn here."""
    gain = np.exp(BRIGHTNESS * rng.standard_normal() + TINT * rng.standard_normal((bands, 1, 1)))
    saturation = np.exp(SATURATION * rng.standard_normal())

    def change(ground: Array) -> Array:
        grey = ground.mean(axis=0, keepdims=True)
        return np.asarray(np.clip(gain * (grey + saturation * (ground - grey)), 0, 1), dtype=np.float32)

    return change


def harder(ground: Array, rng: np.random.Generator) -> Array:
    """An image [bands, H, W] in [0, 1] as stretched for display: some of its pixels black, some white, the middle
    darker or brighter."""
    darkest, brightest = rng.uniform(0, (BLACK, WHITE))
    low, high = np.percentile(ground, (darkest, 100 - brightest), axis=(1, 2), keepdims=True)
    strength = rng.random()
    low, high = strength * low, 1 - strength * (1 - high)
    shown = np.clip((ground - low) / np.maximum(high - low, LEAST_SPAN), 0, 1)
    return np.asarray(shown ** np.exp(GAMMA * rng.standard_normal()), dtype=np.float32)


def cloud_layer(cloudy: Array, clear: Array) -> CloudLayer:
    """The cloud of a pair of images [C, H, W] in [0, 1].

    Where the ground is seen through it, a is the slope of y on x in windows, as in the guided filter (He et al. 2013),
    one for all bands; otherwise it follows from the brightness, the brightest pixels being opaque.
    """
    mean_x, mean_y = _windows(clear), _windows(cloudy)
    covariance = _covariance(clear, cloudy, mean_x, mean_y)
    variance_x = np.maximum(_covariance(clear, clear, mean_x, mean_x), 0)
    variance_y = np.maximum(_covariance(cloudy, cloudy, mean_y, mean_y), 0)
    product = float(variance_x.sum()) * float(variance_y.sum())
    seen_through = float(covariance.sum()) > SEEN * np.sqrt(product) > 0
    if seen_through:
        slope = covariance.sum() / variance_x.sum()
        local = (covariance + DAMPING * slope) / (variance_x + DAMPING)
        a = np.clip(gaussian_filter(local, RADIUS / 2), 0, 1)[None]
        return CloudLayer(a, cloudy - a * clear, True)
    white = max(float(np.percentile(cloudy.min(axis=0), 99)), CLOUD_WHITE)
    added = (cloudy - clear).mean(axis=0) / np.maximum(white - clear.mean(axis=0), 0.1)
    opacity = gaussian_filter(np.clip(added, 0, 1), EDGE)
    counts = np.clip((opacity - OPAQUE[0]) / (OPAQUE[1] - OPAQUE[0]), 0, 1)
    counts = (counts * counts * (3 - 2 * counts))[None]
    a = 1 - opacity[None]
    return CloudLayer(1 - counts * (1 - a), counts * np.maximum(cloudy - a * clear, 0), False)


def _covariance(a: Array, b: Array, mean_a: Array, mean_b: Array) -> Array:
    """[H, W]: of two images in each window, the mean of the bands'."""
    return np.asarray(_windows((a * b).mean(axis=0, keepdims=True))[0] - (mean_a * mean_b).mean(axis=0))


def _windows(image: Array) -> Array:
    side = 2 * RADIUS + 1
    return np.asarray(uniform_filter(image, size=(0, side, side)), dtype=np.float32)

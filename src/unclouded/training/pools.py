"""Where training examples are drawn from: real pairs, and clear images under simulated or laid-over clouds.

Images are decoded once and kept in memory in the dtype of their file, as long as they fit.
"""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from unclouded.datasets.pairs import Pair
from unclouded.errors import UncloudedError
from unclouded.scenes.bands import BandSet, backscatter
from unclouded.scenes.simulate import KINDS, Kind, simulate_clouds
from unclouded.training.cloud_layers import THICKER, THINNER, CloudLayer, cloud_layer, harder, other_colours, recoloured

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
KEEP_BYTES = 8e9  # pairs that take more than this are read from disk whenever they are drawn
MAGNIFIED = 1.7  # the most by which a varied pair is


class Pool(Protocol):
    """A source of examples: draws (cloudy [N·C + sar, side, side], clear [C, side, side]) in [0, 1]."""

    def __len__(self) -> int: ...
    def draw(self, rng: np.random.Generator, side: int) -> tuple[Array, Array]: ...


class Images(NamedTuple):
    """One pair as its files have it: cloudy [N·C, H, W], clear [C, H, W], backscatter in dB [2, H, W]."""

    cloudy: NDArray[np.generic]
    clear: NDArray[np.generic]
    radar: NDArray[np.generic] | None


class PairPool:
    """Real pairs: a random crop of a random pair. Decoded once and kept, or, beyond `keep` bytes, read when drawn.

    The cloudy image of a pair is its first `frames` dates, one after another, and Sentinel-1's bands if `sar`:
    [frames·C + sar, H, W]. The share `transplanted` of the examples has the cloud of a pair drawn
    at random, the share `varied` is magnified, of other colours, and that cloud is thinner or thicker (one date, no
    sar). `channels` are the files' bands that are `bands`.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        bands: BandSet,
        frames: int = 1,
        sar: int = 0,
        keep: float = KEEP_BYTES,
        transplanted: float = 0.0,
        varied: float = 0.0,
        channels: Sequence[int] | None = None,
    ) -> None:
        self.pairs, self.bands, self.frames, self.sar = pairs, bands, frames, sar
        self.channels = channels
        self.transplanted, self.varied = transplanted, varied
        first = self._read(pairs[0])
        kept = len(pairs) * sum(image.nbytes for image in first if image is not None) <= keep
        self.images = [first, *map(self._read, pairs[1:])] if kept else None

    def __len__(self) -> int:
        return len(self.pairs)

    def whole(self, n: int) -> tuple[Array, Array]:
        """Pair n, (cloudy, clear) in [0, 1]."""
        return self._to_model(self._images(n))

    def _images(self, n: int) -> Images:
        return self.images[n] if self.images else self._read(self.pairs[n])

    def _read(self, pair: Pair) -> Images:
        clear = chosen(pair.read_clear(), self.channels, self.bands, pair.clear)
        doubt_white_bands(clear, self.bands, pair.clear)
        radar = pair.read_sar() if self.sar else None
        if self.frames == 1:
            cloudy = chosen(pair.read_cloudy(), self.channels, self.bands, pair.cloudy)
            return Images(finite(cloudy), finite(clear), radar)
        if pair.frames < self.frames:
            raise UncloudedError(
                f"{pair.cloudy} has {pair.frames} cloudy dates, but the recipe takes {self.frames}. "
                "Set model.frames to fewer, or take a data set with more dates."
            )
        dates = [chosen(date, self.channels, self.bands, pair.cloudy) for date in pair.read_frames(self.frames)]
        return Images(finite(np.concatenate(dates)), finite(clear), radar)

    def _to_model(self, images: Images) -> tuple[Array, Array]:
        n = len(self.bands)
        dates = [self.bands.to_model(images.cloudy[first : first + n]) for first in range(0, len(images.cloudy), n)]
        radar = [] if images.radar is None else [backscatter(images.radar)]
        return np.concatenate([*dates, *radar]), self.bands.to_model(images.clear)

    def draw(self, rng: np.random.Generator, side: int) -> tuple[Array, Array]:
        cloudy, clear = self._crop(rng, side)
        if self._is_varied(rng):
            cloudy, clear = recoloured(cloudy, clear, rng)
        if self.transplanted and rng.random() < self.transplanted:
            layer = self.layer(rng, side)
            cloudy = layer.over(clear if layer.seen_through else cloudy)
        return cloudy, clear

    def layer(self, rng: np.random.Generator, side: int) -> CloudLayer:
        """The cloud of a random crop, turned and flipped at random."""
        turns, flip = int(rng.integers(4)), int(rng.choice([1, -1]))
        cloudy, clear = (np.rot90(image, turns, axes=(1, 2))[:, :, ::flip] for image in self._crop(rng, side))
        layer = cloud_layer(cloudy, clear)
        return layer.times(np.exp(rng.uniform(*np.log((THINNER, THICKER))))) if self._is_varied(rng) else layer

    def _is_varied(self, rng: np.random.Generator) -> bool:
        return self.varied > 0 and rng.random() < self.varied

    def _crop(self, rng: np.random.Generator, side: int) -> tuple[Array, Array]:
        images = self._images(int(rng.integers(len(self.pairs))))
        seen = round(side / rng.uniform(1, MAGNIFIED)) if self._is_varied(rng) else side
        window = _window(rng, images.clear.shape[-2:], seen)
        cut = Images(*(None if image is None else image[window] for image in images))  # type: ignore[arg-type]
        cloudy, clear = self._to_model(cut)
        return magnify(_fit(cloudy, seen), side), magnify(_fit(clear, seen), side)


class ClearPool:
    """Clear images at several ground sample distances, under simulated clouds (for `frames` dates, other clouds each);
    now and then with the bands in another order, so that the network also meets false colour, or without clouds, so
    that it learns to leave clear ground alone. The share `varied` has other colours, the share `contrast` is shown in
    a harder contrast. With `clouds` they are those of real pairs."""

    def __init__(
        self,
        images: Sequence[Array],
        bands: Sequence[str],
        false_colour: float = 0.2,
        frames: int = 1,
        cloudless: float = 0.0,
        clouds: PairPool | None = None,
        varied: float = 0.0,
        contrast: float = 0.0,
    ) -> None:
        self.images = images
        self.clouds = clouds
        self.bands = tuple(bands)
        self.false_colour = false_colour
        self.frames = frames
        self.cloudless = cloudless
        self.varied = varied
        self.contrast = contrast

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rng: np.random.Generator, side: int) -> tuple[Array, Array]:
        image = self.images[int(rng.integers(len(self.images)))]
        coarser = int(rng.choice([1, 2], p=[0.7, 0.3])) if min(image.shape[-2:]) >= 2 * side else 1
        window = _window(rng, image.shape[-2:], coarser * side)
        clear = _fit(shrink(image[window], coarser), side)
        if self.varied and rng.random() < self.varied:
            clear = other_colours(len(clear), rng)(clear)
        if self.contrast and rng.random() < self.contrast:
            clear = harder(clear, rng)
        dates = [self._cloudy(clear, rng) for _ in range(self.frames)]
        if rng.random() < self.false_colour:
            order = rng.permutation(len(self.bands))
            dates, clear = [date[order] for date in dates], clear[order]
        return dates[0] if self.frames == 1 else np.concatenate(dates), clear

    def _cloudy(self, clear: Array, rng: np.random.Generator) -> Array:
        if self.cloudless and rng.random() < self.cloudless:
            return clear
        if self.clouds:
            layer = self.clouds.layer(rng, clear.shape[-1])
            return layer.seen_in(self.clouds.bands.names, self.bands).over(clear)
        kind: Kind = rng.choice(KINDS)
        return simulate_clouds(clear, rng, kind=kind, bands=self.bands).cloudy


def _window(rng: np.random.Generator, shape: tuple[int, ...], side: int) -> tuple[slice, slice, slice]:
    row, col = (int(rng.integers(max(n - side, 0) + 1)) for n in shape)
    return slice(None), slice(row, row + side), slice(col, col + side)


def _fit(image: Array, side: int) -> Array:
    """Mirrored at the bottom and right where the image is smaller than the crop."""
    rows, cols = (side - n for n in image.shape[-2:])
    return np.pad(image, ((0, 0), (0, rows), (0, cols)), mode="symmetric") if rows or cols else image


def shrink(image: Array, factor: int) -> Array:
    """The mean of each factor×factor block: [C, H, W] -> [C, H // factor, W // factor]."""
    if factor == 1:
        return image
    bands, height, width = image.shape
    height, width = height // factor, width // factor
    blocks = image[:, : height * factor, : width * factor].reshape(bands, height, factor, width, factor)
    return np.asarray(blocks.mean(axis=(2, 4)), dtype=np.float32)


def magnify(image: Array, side: int) -> Array:
    """[C, n, n] in [0, 1] as [C, side, side], bicubic."""
    if image.shape[-1] == side:
        return image
    larger = F.interpolate(torch.from_numpy(np.ascontiguousarray(image))[None], size=(side, side), mode="bicubic")
    return larger[0].clamp_(0, 1).numpy()


def chosen(
    image: NDArray[np.generic], channels: Sequence[int] | None, bands: BandSet, file: Path
) -> NDArray[np.generic]:
    """The bands of the image [C, H, W] that are the recipe's: `channels`, or all; UncloudedError if it has others."""
    if channels is not None:
        if max(channels) > len(image):
            raise UncloudedError(
                f"{file} has {len(image)} bands and no band {max(channels)}. Mend the channels of the recipe's source."
            )
        return image[[channel - 1 for channel in channels]]
    if len(image) != len(bands):
        raise UncloudedError(
            f"{file} has {len(image)} bands, but the recipe names {len(bands)} ({', '.join(bands.names)}). "
            "Name the file's bands with --bands."
        )
    return image


def doubt_white_bands(clear: NDArray[np.generic], bands: BandSet, file: Path) -> None:
    """A band of a clear image that is at its dtype's maximum everywhere is rather alpha than what it is called."""
    for name, band in zip(bands.names, clear, strict=True):
        if band.dtype.kind in "ui" and (band == np.iinfo(band.dtype).max).all():
            warn_once(f"The band {name} of {file} is {band.flat[0]} everywhere: is it an alpha band?")


def finite(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """NaN (nodata of float files) becomes 0."""
    return np.nan_to_num(image) if image.dtype.kind == "f" else image


@cache
def warn_once(sentence: str) -> None:
    """Every stage opens its pools anew; the user hears of it once."""
    logger.warning(sentence)

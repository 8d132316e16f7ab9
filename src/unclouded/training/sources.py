"""From a recipe's source (training.values) to the pool that it describes: files found, chosen and decoded."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.images import read_image
from unclouded.datasets.pairs import Pair, read_pairs
from unclouded.datasets.preparing.pansharpen import open_sharpened
from unclouded.datasets.splits import stems
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import BandSet, DnRange
from unclouded.scenes.country import Style
from unclouded.scenes.landscape import landscape
from unclouded.scenes.stretch import parse_stretch
from unclouded.training.pools import Array, ClearPool, PairPool, Pool, chosen, doubt_white_bands, finite, warn_once
from unclouded.training.values import Source

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}
RGB = BandSet.display("red", "green", "blue")
LANDSCAPE_SIDE = 384
LANDSCAPE_BANDS = ("red", "green", "blue", "nir")  # what scenes.landscape paints


def open_pool(source: Source, root: Path, bands: BandSet, frames: int = 1, sar: int = 0) -> Pool:
    """Decode a recipe's source below `root`; UncloudedError if it is absent or empty.

    Pairs with fewer than `frames` cloudy dates are left out (and counted in the log); with `sar`, so are those without
    a Sentinel-1 image.
    """
    path = root / source.path
    if source.kind == "pairs":
        pairs = _usable(read_pairs(path, source.split, source.dataset, source.drop_leaks), frames, sar, path)
        return PairPool(
            _share(pairs, source, path),
            bands,
            frames,
            sar,
            transplanted=source.transplanted,
            varied=source.varied,
            channels=source.channels,
        )
    if sar:
        raise UsageError("Simulated pairs have no Sentinel-1 image. Train on real pairs, or set model.sar to 0.")
    false_colour = 0.2 if bands.units == "display" else 0.0  # reflectance knows its bands by their place
    if source.kind == "landscapes":
        images = _landscapes(source, bands.names)
    else:
        images = [_clear(file, bands, source, root) for file in clear_files(path, source.split)]
    clouds = None
    if source.clouds:
        clouds = PairPool(read_pairs(root / source.clouds, source.clouds_split), RGB, varied=source.varied)
    return ClearPool(
        images,
        bands.names,
        false_colour,
        frames,
        cloudless=source.cloudless,
        clouds=clouds,
        varied=source.varied,
        contrast=source.contrast,
    )


def clear_files(path: Path, split: str | None = None) -> list[Path]:
    """The images of a folder (or the one image), of them those whose stems are in the written list `split`;
    UncloudedError where there are none."""
    files = [path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if split is not None:
        chosen = frozenset(stems(split))
        files = [file for file in files if file.stem in chosen]
    if not files:
        listed = "" if split is None else f" of the list {split}"
        raise UncloudedError(f"There are no clear images{listed} at {path}. Give --data the folder that holds them.")
    return files


def _clear(file: Path, bands: BandSet, source: Source, root: Path) -> Array:
    pixels = read_image(file) if source.pan is None else _sharpened(file, root / source.pan)
    image = finite(chosen(pixels, source.channels, bands, file))
    doubt_white_bands(image, bands, file)
    dn_range = None if source.stretch is None else _range(image, source.stretch, file)
    return _rows(bands.to_model(image, dn_range), source.rows)


def _sharpened(file: Path, pan: Path) -> NDArray[np.generic]:
    with open_sharpened(file, pan) as scene:
        pixels: NDArray[np.generic] = scene.read()
    return pixels


def _range(image: NDArray[np.generic], stretch: str, file: Path) -> DnRange:
    """From one percentile of each band to the other; UncloudedError where they are the same number."""
    low, high = np.percentile(image.astype(np.float64), parse_stretch(stretch), axis=(1, 2))
    if (low == high).any():
        raise UncloudedError(f"A band of {file} is the same number at both percentiles of {stretch}. Choose others.")
    return DnRange(low=tuple(low), high=tuple(high))


def _share(pairs: list[Pair], source: Source, path: Path) -> list[Pair]:
    """The source's share of the pairs, in the order of a hash of the stem; UncloudedError if that leaves none."""
    if source.share != (0.0, 1.0):
        order = sorted(pairs, key=lambda pair: hashlib.sha256(pair.stem.encode()).hexdigest())
        first, last = (int(share * len(order)) for share in source.share)
        pairs = order[first:last]
    if not pairs:
        raise UncloudedError(f"No pairs of {path} are left for {source.split or source.share}. Add pairs.")
    return pairs


def _usable(pairs: list[Pair], frames: int, sar: int, path: Path) -> list[Pair]:
    """The pairs that have what the model takes; UncloudedError if that leaves none."""
    dated = [pair for pair in pairs if pair.frames >= frames]
    found = [pair for pair in dated if pair.sar or not sar]
    if pairs and not dated:
        raise UncloudedError(
            f"None of the {len(pairs)} pairs of {path} has {frames} cloudy dates. "
            "Set model.frames to fewer, or take a data set with more dates."
        )
    if dated and not found:
        raise UncloudedError(
            f"None of the {len(dated)} pairs of {path} has a Sentinel-1 image. Add them, or set model.sar to 0."
        )
    lost = {f"fewer than {frames} cloudy dates": (pairs, dated), "no Sentinel-1 image": (dated, found)}
    for what, (before, after) in lost.items():
        if len(after) < len(before):
            missing = len(before) - len(after)
            warn_once(f"{missing} of {len(before)} pairs of {path} have {what} and are left out.")
    return found


def _landscapes(source: Source, names: Sequence[str]) -> list[Array]:
    """Generated scenes, the same ones every time; UncloudedError for a band that they do not have."""
    missing = set(names) - set(LANDSCAPE_BANDS)
    if missing:
        raise UncloudedError(
            f"Generated landscapes have no band {missing.pop()!r}. Leave them out of the recipe's sources."
        )
    channels = [LANDSCAPE_BANDS.index(name) for name in names]
    images = []
    for n in range(source.count):
        rng = np.random.default_rng((1, n))
        gsd = float(rng.choice(source.gsd))
        style = None if source.towns is None else replace(Style.draw(rng), towns=source.towns)
        images.append(landscape(rng, LANDSCAPE_SIDE, LANDSCAPE_SIDE, gsd=gsd, style=style)[channels])
    return images


def _rows(image: Array, rows: tuple[float, float]) -> Array:
    first, last = (round(share * image.shape[-2]) for share in rows)
    return image[:, first:last]

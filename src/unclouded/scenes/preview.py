"""A before | after picture of a scene, both sides under one contrast stretch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unclouded.errors import UsageError
from unclouded.scenes.bands import BandSet
from unclouded.scenes.failures import writing
from unclouded.scenes.pictures import SUFFIXES
from unclouded.scenes.raster import Array, Scene, SceneInfo, sample_valid

Picture = NDArray[np.uint8]

SIDE = 1024
GAP = 8  # white pixels between the two
PERCENTILES = (2.0, 98.0)


def check_preview(path: Path) -> None:
    """Raises UsageError for a preview that is not PNG, JPEG or WebP."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"The preview {path.name} is not named as a picture. Use the ending .png, .jpg or .webp.")


def shown_bands(model: BandSet, bands: Sequence[int]) -> tuple[int, ...]:
    """The scene bands to show as red, green and blue: by the model's names, else its first three, else one as grey."""
    by_name = dict(zip(model.names, bands, strict=True))
    if {"red", "green", "blue"} <= set(by_name):
        return by_name["red"], by_name["green"], by_name["blue"]
    return tuple(bands[:3]) if len(bands) >= 3 else (bands[0],) * 3


def write_preview(path: Path, before: Scene, after: Scene, bands: Sequence[int], at: Path | None = None) -> None:
    """Write before | after at `at` (default `path`; `path` says the kind), at most 1024 pixels a side each.

    The stretch runs from the 2 % to the 98 % quantile of the clear side, all bands alike, so colours stay true.
    """
    pair = stretched(before.thumbnail(SIDE, bands), after.thumbnail(SIDE, bands), before.info, bands)
    left, right = (side.transpose(1, 2, 0) for side in pair)
    gap = np.full((left.shape[0], GAP, 3), 255, np.uint8)
    with writing(path):
        picture = Image.fromarray(np.concatenate([left, gap, right], axis=1))
        picture.save(at or path, format=SUFFIXES[path.suffix.lower()].upper())


def stretched(before: Array, after: Array, info: SceneInfo, bands: Sequence[int]) -> tuple[Picture, Picture]:
    """Two thumbnails [C, h, w] in DN as uint8 under one stretch, see `write_preview`; black where there is no data."""
    valid = [sample_valid(dn, info, bands) for dn in (before, after)]
    low, high = np.percentile(after[valid[1]].astype(np.float64), PERCENTILES) if valid[1].any() else (0.0, 1.0)
    return _shown(before, valid[0], low, high), _shown(after, valid[1], low, high)


def _shown(dn: Array, valid: NDArray[np.bool_], low: float, high: float) -> Picture:
    scaled = (np.where(valid, dn, low).astype(np.float64) - low) / max(high - low, 1e-9)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)

"""Restored images on disk, for people to look at and for other tools to score."""

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unclouded.datasets.images import write_tiff
from unclouded.evaluation.methods import to_unit
from unclouded.evaluation.metrics import to_uint8
from unclouded.scenes.bands import BandSet
from unclouded.scenes.failures import writing


def save_image(folder: Path, stem: str, restored: NDArray[np.float32], dtype: DTypeLike, bands: BandSet | None) -> Path:
    """Write [C, H, W] in [0, 1] in the file's dtype: PNG for 8-bit images of 1 or 3 bands, else GeoTIFF (no grid)."""
    if bands is not None:
        pixels = bands.from_model(restored, dtype)
    else:
        pixels = to_uint8(restored) if np.dtype(dtype) == np.uint8 else _as_dtype(restored, dtype)
    if pixels.dtype == np.uint8 and len(pixels) in (1, 3):
        from PIL import Image

        path = folder / f"{stem}.png"
        shown = pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        with writing(path):
            Image.fromarray(shown).save(path)
        return path
    path = folder / f"{stem}.tif"
    write_tiff(path, pixels)
    return path


def _as_dtype(x: NDArray[np.float32], dtype: DTypeLike) -> NDArray[np.generic]:
    names = [str(band) for band in range(len(x))]
    return np.asarray(BandSet.reflectance(*names).from_model(x, dtype))


__all__ = ["save_image", "to_unit"]

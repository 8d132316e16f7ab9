"""Small scenes on disk for tests of any folder."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import Affine

TRANSFORM = Affine(10, 0, 500000, 0, -10, 4600000)


def write_tif(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    """`pixels` [C, H, W] as a GeoTIFF of 10 m in UTM 33 N, unless `profile` says otherwise."""
    count, height, width = pixels.shape
    size = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name}
    options = {"driver": "GTiff", "crs": "EPSG:32633", "transform": TRANSFORM, **size, **profile}
    with rasterio.open(path, "w", **options) as file:
        file.write(pixels)
    return path


def random_tif(
    path: Path, bands: int = 3, dtype: str = "uint8", size: tuple[int, int] = (60, 80), **profile: Any
) -> Path:
    """A GeoTIFF of noise from 1 to 254, its bands without colours."""
    pixels = np.random.default_rng(0).integers(1, 255, (bands, *size)).astype(dtype)
    return write_tif(path, pixels, **{"photometric": "MINISBLACK", **profile})


def truncated_tif(path: Path) -> Path:
    """The first half of a GeoTIFF's bytes."""
    whole = random_tif(path, size=(400, 400)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()

"""Images of a data set as arrays [C, H, W]: PNG, JPEG and WebP by pillow, TIFF by rasterio."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from PIL import Image

from unclouded.errors import UncloudedError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
RASTERS = (".tif", ".tiff")
# pillow mode -> (mode to read in, bands, dtype); transparency is not a band of the scene and is left out
_MODES = {
    "L": ("L", 1, "uint8"),
    "LA": ("L", 1, "uint8"),
    "1": ("L", 1, "uint8"),
    "P": ("RGB", 3, "uint8"),
    "PA": ("RGB", 3, "uint8"),
    "RGB": ("RGB", 3, "uint8"),
    "RGBA": ("RGB", 3, "uint8"),
    "RGBX": ("RGB", 3, "uint8"),
    "YCbCr": ("RGB", 3, "uint8"),
    "CMYK": ("RGB", 3, "uint8"),
    "I;16": ("I;16", 1, "uint16"),
    "I;16B": ("I;16", 1, "uint16"),
    "I": ("I", 1, "int32"),
    "F": ("F", 1, "float32"),
}


class ImageFacts(NamedTuple):
    """What an image's header says."""

    bands: int
    height: int
    width: int
    dtype: str

    def __str__(self) -> str:
        return f"{self.width}x{self.height} with {self.bands} {'band' if self.bands == 1 else 'bands'} of {self.dtype}"


def is_image(path: Path) -> bool:
    """Whether the name says that this is an image; hidden files are not."""
    return path.suffix.lower() in PICTURES + RASTERS and not path.name.startswith(".")


def image_facts(path: str | Path) -> ImageFacts:
    """Bands, size and dtype from the header. Raises UncloudedError with the file's name if it cannot be read."""
    path = Path(path)
    if path.suffix.lower() in RASTERS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # training pairs need no georeferencing
                with rasterio.open(path) as raster:
                    return ImageFacts(raster.count, raster.height, raster.width, np.result_type(*raster.dtypes).name)
        except rasterio.errors.RasterioError as error:
            raise unreadable(path, error) from error
    try:
        with Image.open(path) as picture:
            _, bands, dtype = _MODES[picture.mode]
            return ImageFacts(bands, picture.height, picture.width, dtype)
    except (OSError, KeyError, SyntaxError, ValueError) as error:
        raise unreadable(path, error) from error


def read_image(path: str | Path) -> NDArray[np.generic]:
    """The image as [C, H, W] in the file's dtype. Raises UncloudedError with the file's name if it cannot be read."""
    path = Path(path)
    if path.suffix.lower() in RASTERS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with rasterio.open(path) as raster:
                    pixels: NDArray[np.generic] = raster.read()
                    return pixels
        except rasterio.errors.RasterioError as error:
            raise unreadable(path, error) from error
    try:
        with Image.open(path) as picture:
            mode, bands, dtype = _MODES[picture.mode]
            array = np.asarray(picture if picture.mode == mode else picture.convert(mode), dtype=dtype)
    except (OSError, KeyError, SyntaxError, ValueError) as error:
        raise unreadable(path, error) from error
    return np.ascontiguousarray(array.transpose(2, 0, 1)) if bands > 1 else array[None]


def write_tiff(path: Path, pixels: NDArray[np.generic], bands: Sequence[str] = (), **grid: Any) -> None:
    """[C, H, W] of any dtype as a deflated GeoTIFF; `bands` are described, `grid` is rasterio's crs and transform."""
    count, height, width = pixels.shape
    # four bands of 8 bits would be taken for red, green, blue and alpha
    colours = {} if tuple(bands[:3]) in ((), ("red", "green", "blue")) else {"photometric": "MINISBLACK"}
    form = {"count": count, "height": height, "width": width, "dtype": pixels.dtype.name, "alpha": "unspecified"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", compress="deflate", **form, **colours, **grid) as file:
            file.write(pixels)
            if bands:
                file.descriptions = bands


def unreadable(path: Path, error: Exception) -> UncloudedError:
    """The error to raise for a file that cannot be read."""
    reason = "there is no such file" if not path.exists() else "it is not an image or is damaged"
    return UncloudedError(f"{path} cannot be read: {reason} ({type(error).__name__}). Replace it or leave it out.")

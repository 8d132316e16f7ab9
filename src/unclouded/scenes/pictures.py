"""PNG, JPEG and WebP pictures: read whole, written whole, with their alpha band, colour profile and EXIF kept."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from unclouded.errors import UncloudedError
from unclouded.scenes.failures import reading, writing
from unclouded.scenes.raster import Array, Kind, Mask, SceneInfo, describe
from unclouded.scenes.tiles import Window

SUFFIXES: dict[str, Kind] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
MAGIC: dict[Kind, tuple[int, bytes]] = {
    "png": (0, b"\x89PNG\r\n\x1a\n"),
    "jpeg": (0, b"\xff\xd8\xff"),
    "webp": (8, b"WEBP"),
}
COLOURS = {
    "L": (ColorInterp.gray,),
    "LA": (ColorInterp.gray, ColorInterp.alpha),
    "RGB": (ColorInterp.red, ColorInterp.green, ColorInterp.blue),
    "RGBA": (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha),
}


def picture_kind(name: str) -> Kind | None:
    """Which kind of picture the file is by its first bytes; None for anything else, missing files included."""
    try:
        with open(name, "rb") as file:
            head = file.read(16)
    except OSError:
        return None
    return next((kind for kind, (at, magic) in MAGIC.items() if head[at : at + len(magic)] == magic), None)


class ArrayScene:
    """A scene that is whole in memory, [C, H, W]; `valid` [H, W] says where it has data."""

    def __init__(self, pixels: Array, info: SceneInfo, valid: Mask | None = None) -> None:
        self.pixels = pixels
        self.info = info
        self.valid = valid

    def read(self, window: Window, indexes: Sequence[int] | None = None) -> Array:
        pixels = self.pixels if indexes is None else self.pixels[[i - 1 for i in indexes]]
        return np.array(pixels[:, window.rows, window.cols])

    def read_mask(self, window: Window) -> Mask | None:
        return None if self.valid is None else self.valid[window.rows, window.cols]

    def thumbnail(self, longest: int, indexes: Sequence[int]) -> Array:
        step = max(1, -(-max(self.info.height, self.info.width) // longest))
        return np.array(self.pixels[[i - 1 for i in indexes], ::step, ::step])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class PictureScene(ArrayScene):
    """A picture file; `extras` (colour profile, EXIF, resolution) go to the picture that is written."""

    def __init__(self, name: str, kind: Kind) -> None:
        pixels, info, self.extras = _read_deep(name, kind) if _is_deep(name, kind) else _read(name, kind)
        super().__init__(pixels, info)


def array_info(name: str, kind: Kind, pixels: Array, colours: tuple[ColorInterp, ...]) -> SceneInfo:
    """The SceneInfo of an array [C, H, W] that has no georeferencing."""
    n = len(colours)
    return SceneInfo(
        name=name,
        kind=kind,
        height=pixels.shape[1],
        width=pixels.shape[2],
        dtype=pixels.dtype,
        colorinterp=colours,
        nodata=(None,) * n,
        descriptions=(None,) * n,
        scales=(1.0,) * n,
        offsets=(0.0,) * n,
        units=(None,) * n,
        band_tags=({},) * n,
    )


def _is_deep(name: str, kind: Kind) -> bool:
    """A PNG of 16 bits a sample, which Pillow would cut to 8."""
    if kind != "png":
        return False
    with open(name, "rb") as file:
        return file.read(25)[24:] == b"\x10"  # the bit depth in IHDR


def _read_deep(name: str, kind: Kind) -> tuple[Array, SceneInfo, dict[str, Any]]:
    with reading(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(name, driver="PNG") as file:
            return file.read(), replace(describe(file, name), kind=kind), {}


def _read(name: str, kind: Kind) -> tuple[Array, SceneInfo, dict[str, Any]]:
    with reading(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(name) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise UncloudedError(f"{name} is an animation of {image.n_frames} frames. Give one frame as a picture.")  # type: ignore[attr-defined]
            mode = _plain_mode(image)
            extras = {key: image.info[key] for key in ("exif", "icc_profile", "dpi") if image.info.get(key)}
            pixels = np.array(image.convert(mode))
    pixels = np.atleast_3d(pixels).transpose(2, 0, 1)
    return pixels, array_info(name, kind, pixels, COLOURS[mode]), extras


def _plain_mode(image: Image.Image) -> str:
    """L, LA, RGB or RGBA: palettes, 1-bit pictures and CMYK are expanded."""
    transparent = "transparency" in image.info
    if image.mode in ("1", "L"):
        return "LA" if transparent else "L"
    if image.mode in ("LA", "RGBA"):
        return image.mode
    return "RGBA" if transparent or image.mode in ("PA", "La", "RGBa") else "RGB"


def check_picture(name: str | Path, kind: Kind, info: SceneInfo) -> None:
    """Refuse to write a scene as a picture that cannot hold it."""
    deep = info.dtype.itemsize > 1
    if info.dtype.kind != "u" or info.dtype.itemsize > 2 or info.colorinterp not in COLOURS.values():
        held = f"{info.count} bands of {info.dtype}"
    elif deep and kind != "png":
        held = "16 bits a sample"
    elif kind == "jpeg" and info.alpha:
        held = "an alpha band"
    else:
        return
    raise UncloudedError(f"A {kind.upper()} cannot hold {held}. Give {Path(name).name} the ending .tif instead.")


def write_picture(path: Path, kind: Kind, pixels: Array, extras: dict[str, Any]) -> None:
    """Write [C, H, W]. PNG and WebP keep every bit; JPEG is lossy by nature (quality 95, full chroma)."""
    if pixels.dtype == np.uint16:
        _write_deep(path, pixels)
        return
    shape = pixels.transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(shape[..., 0] if len(pixels) == 1 else shape))
    options: dict[str, Any] = {
        "png": {},
        "jpeg": {"quality": 95, "subsampling": 0},
        "webp": {"lossless": True, "exact": True, "quality": 80},
    }[kind]
    with writing(path):
        image.save(path, format=kind.upper(), **options, **_accepted(kind, extras))


def _accepted(kind: Kind, extras: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in extras.items() if not (kind == "webp" and key == "dpi")}


def _write_deep(path: Path, pixels: Array) -> None:
    count, height, width = pixels.shape
    with writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        profile = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint16"}
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels)

"""What the operating system, GDAL and Pillow complain of, said so that a user can mend it. The one place for it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from rasterio._err import CPLE_BaseError  # what rasterio lets through of GDAL's errors here and there
from rasterio.errors import RasterioError

from unclouded.errors import UncloudedError
from unclouded.scenes.names import is_address

READABLE = "GeoTIFF, PNG, JPEG, WebP, or another raster that GDAL reads"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoomError(UncloudedError):
    """The disk became full while a result was written."""


@contextmanager
def reading(name: str | Path) -> Iterator[None]:
    """Turns what can go wrong while `name` is opened or read into an UncloudedError of two sentences."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UncloudedError(f"{name} is too large for a picture ({error}). Convert it to a GeoTIFF first.") from error
    except UnidentifiedImageError as error:
        raise UncloudedError(_not_an_image(name)) from error
    except MemoryError as error:
        raise UncloudedError(f"{name} does not fit in memory. Convert it to a tiled GeoTIFF first.") from error
    except (RasterioError, CPLE_BaseError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise UncloudedError(_why_unreadable(name, error)) from error


def _not_an_image(name: str | Path) -> str:
    if _is_empty(name):
        return f"{name} is empty (0 bytes). Fetch or copy it again."
    return f"{name} is not an image that can be read here. Give a {READABLE}."


def _is_empty(name: str | Path) -> bool:
    try:
        return Path(name).is_file() and Path(name).stat().st_size == 0
    except OSError:
        return False


def _why_unreadable(name: str | Path, error: BaseException) -> str:
    text = str(error.__cause__ or error).strip()
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return f"{name} may not be read (permission denied). Change its permissions or copy it to a place of your own."
    if isinstance(error, IsADirectoryError) or Path(name).is_dir():
        return f"{name} is a folder. Give the path of one image."
    if isinstance(error, FileNotFoundError) or "No such file" in text or "does not exist" in text:
        return f"{name} does not exist. Check the path."
    if "not recognized" in text or _is_empty(name):
        return _not_an_image(name)
    if is_address(str(name)):
        return f"{name} cannot be read ({_short(text)}). Check the address and your access, or fetch the file first."
    return f"{name} cannot be read to its end ({_short(text)}): it is damaged or truncated. Fetch or copy it again."


def _short(text: str) -> str:
    line = text.splitlines()[0].rstrip(".") if text else "no reason given"
    return line if len(line) <= 160 else line[:157] + "…"


@contextmanager
def writing(name: str | Path) -> Iterator[None]:
    """Turns what can go wrong while `name` is written into an UncloudedError; a full disk is a NoRoomError."""
    try:
        yield
    except (RasterioError, CPLE_BaseError) as error:
        text = str(error.__cause__ or error)
        if "No space left" in text or "disk space" in text:
            raise no_room(name) from error
        raise UncloudedError(f"{name} could not be written ({_short(text)}). Choose another place for it.") from error
    except OSError as error:
        if error.errno in NO_ROOM:
            raise no_room(name) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UncloudedError(
                f"{name} may not be written ({error.strerror}). Choose a folder that you can write to."
            ) from error
        raise UncloudedError(f"{name} could not be written ({_short(str(error))}). Choose another place.") from error


def make_folder(folder: Path) -> Path:
    """`folder`, made with its parents if it is not there. Raises UncloudedError if it cannot be."""
    if folder.exists() and not folder.is_dir():
        raise UncloudedError(f"{folder} is a file where a folder is wanted. Give another name.")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def no_room(name: str | Path) -> NoRoomError:
    return NoRoomError(f"The disk became full while {name} was written. Make room, then run again.")

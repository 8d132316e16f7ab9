"""Opens a scene, whatever it is: a picture, or a raster that GDAL reads."""

from pathlib import Path

from unclouded.scenes.failures import reading
from unclouded.scenes.names import is_address
from unclouded.scenes.pictures import PictureScene, picture_kind
from unclouded.scenes.raster import RasterScene, Scene


def open_scene(name: str | Path) -> Scene:
    """Open a picture or raster for reading; use it as a context manager.

    Raises UncloudedError, with what to do, for what is missing, not an image, damaged, or not made of 1–16 bands of one
    numeric type.
    """
    name = str(name)
    if not is_address(name):
        with reading(name):
            if Path(name).is_dir():
                raise IsADirectoryError
    kind = picture_kind(name)
    return PictureScene(name, kind) if kind else RasterScene(name)

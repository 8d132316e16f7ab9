"""Other images of a scene's place, on the scene's own grid: masks, further dates, radar."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from unclouded.errors import UncloudedError
from unclouded.scenes.failures import reading
from unclouded.scenes.raster import RasterScene, Scene, SceneInfo


def needs_warp(image: Any, name: str, info: SceneInfo, what: str) -> bool:
    """Whether `image` (an open dataset, or a SceneInfo) lies on another grid than the scene `info`.

    What has no coordinate system is on the scene's grid if it is as large. Raises UncloudedError, calling the image
    `what`, if it has neither that size nor a coordinate system, or lies elsewhere.
    """
    same_size = (image.height, image.width) == (info.height, info.width)
    placed = info.crs is not None and not info.gcps
    if image.crs is None or not placed:
        if same_size:
            return False
        lacking = name if placed else info.name
        raise UncloudedError(
            f"{lacking} has no coordinate system, and the {what} of {image.width} × {image.height} pixels is not as "
            f"large as the scene of {info.width} × {info.height}. "
            f"Give a {what} on the scene's grid, or georeference both."
        )
    if same_size and image.crs == info.crs and image.transform.almost_equals(info.transform, 1e-9):
        return False
    _check_overlap(image, name, info, what)
    return True


def _check_overlap(image: Any, name: str, info: SceneInfo, what: str) -> None:
    xs, ys = _corners(image)
    left, bottom, right, top = transform_bounds(image.crs, info.crs, min(xs), min(ys), max(xs), max(ys))
    xs, ys = _corners(info)
    if right <= min(xs) or left >= max(xs) or top <= min(ys) or bottom >= max(ys):
        raise UncloudedError(
            f"The {what} {name} ({image.crs.to_string()}) does not overlap {info.name} ({info.crs.to_string()}). "
            f"Check that both belong to one place and that the {what}'s coordinate system is the right one."
        )


def _corners(image: Any) -> tuple[list[float], list[float]]:
    """x and y of the image's corners in its coordinate system."""
    t = image.transform
    corners = [(col, row) for col in (0, image.width) for row in (0, image.height)]
    return [t.a * c + t.b * r + t.c for c, r in corners], [t.d * c + t.e * r + t.f for c, r in corners]


def warp(file: Any, grid: Any, resampling: Resampling, **source: Any) -> WarpedVRT:
    """The open dataset `file` on `grid` (a SceneInfo, or anything else with crs, transform, height and width), read by
    windows; its mask says where it has data. `source` may give it a grid that it lacks (src_crs, …)."""
    return WarpedVRT(
        file,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=resampling,
        add_alpha=file.nodata is None and ColorInterp.alpha not in file.colorinterp,
        **source,
    )


def on_grid(scene: Scene, info: SceneInfo, what: str, opened: ExitStack) -> Scene:
    """The open `scene` itself, or, if it lies on another grid than `info`, resampled bilinearly; `opened` closes it.

    Raises UncloudedError as `needs_warp` does.
    """
    if not needs_warp(scene.info, scene.info.name, info, what) or not isinstance(scene, RasterScene):
        return scene
    return opened.enter_context(_Warped(scene, info))


class _Warped(RasterScene):
    """An open raster on another grid."""

    def __init__(self, scene: RasterScene, grid: SceneInfo) -> None:
        with reading(scene.info.name):
            self._file = warp(scene._file, grid, Resampling.bilinear)
        placed = {name: getattr(grid, name) for name in ("height", "width", "crs", "transform")}
        own_mask = scene.info.internal_mask or (None in scene.info.nodata and scene.info.alpha is None)
        self.info = replace(scene.info, **placed, internal_mask=own_mask)

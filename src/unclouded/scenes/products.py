"""The files of a run: the restored scene and, if asked for, its uncertainty, weights, mask and preview.

They are written into the run's partial folder, beside their final names, and moved there when all of them are whole;
the scene itself is moved last.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unclouded.scenes.bands import BandSet
from unclouded.scenes.compose import NODATA
from unclouded.scenes.failures import writing
from unclouded.scenes.opening import open_scene
from unclouded.scenes.output import (
    copy_geotiff,
    custom_domains,
    layer_info,
    output_kind,
    remove_sidecars,
    write_band_tags,
    write_categories,
    write_geotiff,
)
from unclouded.scenes.partial import Layer
from unclouded.scenes.pictures import PictureScene, check_picture, write_picture
from unclouded.scenes.preview import write_preview
from unclouded.scenes.raster import Array, Kind, RasterScene, Scene, SceneInfo
from unclouded.scenes.tiles import Window

SCENE, UNCERTAINTY, WEIGHTS, MASK = "scene", "uncertainty", "weights", "mask"
CLASS_NAMES = ("input", "blended", "synthesised")  # of the mask's values 0, 1, 2
ReadLayer = Callable[[str, Window], Array]  # (layer, window of whole rows) -> [bands, h, W]
STALE = ("STATISTICS_",)  # band tags that describe the pixels that were replaced: dropped, GDAL finds them anew


@dataclass(frozen=True)
class Product:
    """One raster to be written: a layer of the partial folder, its final path, and what it is."""

    layer: str
    path: Path
    kind: Kind
    info: SceneInfo

    @property
    def shape(self) -> Layer:
        return Layer(self.info.count, self.info.dtype)


def scene_product(path: Path, source: SceneInfo, restored: Sequence[int]) -> Product:
    """The scene itself, like its source. Raises UncloudedError if a picture cannot hold it."""
    kind = output_kind(path, source)
    if kind != "raster":
        check_picture(path, kind, source)
    band_tags = tuple(
        {k: v for k, v in tags.items() if band not in restored or not k.startswith(STALE)}
        for band, tags in enumerate(source.band_tags, start=1)
    )
    return Product(SCENE, path, kind, replace(source, band_tags=band_tags))


def layer_product(layer: str, path: Path, source: SceneInfo, model: BandSet) -> Product:
    """A map beside the scene: per model band float32 (NaN is nodata), or the classes of what was made."""
    if layer == MASK:
        info = layer_info(source, ("what was synthesised",), "uint8", NODATA)
    else:
        info = layer_info(source, model.names, "float32", float("nan"))
    return Product(layer, path, output_kind(path, replace(info, kind="raster")), info)


def write_products(
    products: Sequence[Product],
    folder: Path,
    rows: ReadLayer,
    scene: Scene,
    preview: Path | None = None,
    preview_bands: Sequence[int] = (),
    tags: Mapping[str, str] | None = None,
    cog: bool = False,
    unchanged: bool = False,
) -> None:
    """Turn finished rows into files in `folder`, then move them to their final names, the scene last.

    `rows` is asked once for every row of every layer. `tags` say what made the files; `cog` makes every GeoTIFF a Cloud
    Optimized one; `unchanged` says that the restored scene has the pixels of `scene`. Raises UncloudedError.
    """
    tagged = [replace(product, info=_tagged(product.info, tags or {})) for product in products]
    staged = [(_write(product, folder, rows, scene, cog, unchanged), product.path) for product in tagged]
    if preview is not None:
        picture = folder / f"preview{preview.suffix}"
        main = next(made for made, product in zip(staged, products, strict=True) if product.layer == SCENE)[0]
        with open_scene(main) as after:
            write_preview(preview, scene, after, preview_bands, at=picture)
        staged.append((picture, preview))
    order = sorted(staged, key=lambda pair: pair[0].stem == SCENE)
    for made, final in order:
        remove_sidecars(final)
        _move(made, final)
    for product in products:
        if product.layer == MASK:
            write_categories(product.path, CLASS_NAMES)
        elif cog and product.kind == "raster" and custom_domains(product.info) and any(product.info.band_tags):
            write_band_tags(product.path, product.info.band_tags)


def _tagged(info: SceneInfo, tags: Mapping[str, str]) -> SceneInfo:
    return replace(info, tags={**info.tags, "": {**info.tags.get("", {}), **tags}})


def _write(product: Product, folder: Path, rows: ReadLayer, scene: Scene, cog: bool, unchanged: bool) -> Path:
    path = folder / f"{product.layer}{product.path.suffix or '.' + product.kind}"
    path.unlink(missing_ok=True)  # half of one, if the run was killed while it was written
    info = product.info
    if unchanged and not cog and product.layer == SCENE and (source := _copied_from(product, scene)):
        copy_geotiff(path, source, info, lambda w: rows(SCENE, w))
    elif product.kind == "raster":
        mask = scene.read_mask if info.internal_mask else None
        resampling = ("nearest" if product.layer == MASK else "average") if cog else None
        write_geotiff(path, info, lambda w: rows(product.layer, w), mask, resampling)
    else:
        extras = scene.extras if isinstance(scene, PictureScene) else {}
        whole = rows(product.layer, Window(0, 0, info.height, info.width))
        write_picture(path, product.kind, np.ascontiguousarray(whole), extras)
    return path


def _copied_from(product: Product, scene: Scene) -> Path | None:
    return scene.geotiff if product.kind == "raster" and isinstance(scene, RasterScene) else None


def _move(made: Path, final: Path) -> None:
    """Give a whole file its final name in one step, after its bytes are safely on disk."""
    with writing(final):
        with made.open("rb+") as file:
            os.fsync(file.fileno())
        if made.stat().st_dev == final.resolve().parent.stat().st_dev:
            made.replace(final)
        else:
            _copy_over(made, final)


def _copy_over(made: Path, final: Path) -> None:
    """To another file system: copy beside the final name, then rename there."""
    beside = final.with_name(f".{final.name}.new")
    try:
        shutil.copyfile(made, beside)
        beside.replace(final)
    finally:
        beside.unlink(missing_ok=True)

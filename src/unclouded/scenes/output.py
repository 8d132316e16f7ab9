"""Writing a result that carries on as its scene did: a GeoTIFF like the input (grid, georeferencing, bands, tags,
layout).

GDAL does not report every failed write (a full disk may go unnoticed until the file is read), so it writes through
`WatchedFiles`. A Cloud Optimized GeoTIFF, which GDAL copies by itself, is read back and compared.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from unclouded.errors import UsageError
from unclouded.scenes.ahead import ahead
from unclouded.scenes.failures import no_room, writing
from unclouded.scenes.pictures import SUFFIXES
from unclouded.scenes.raster import Array, Kind, Mask, SceneInfo, gdal_window
from unclouded.scenes.tiles import Window
from unclouded.scenes.watched import WatchedFiles

LOSSLESS = ("deflate", "lzw", "zstd", "packbits", "lzma")
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
ROWS_AT_ONCE = 256
TIFF_SUFFIXES = (".tif", ".tiff")

ReadRows = Callable[[Window], NDArray[Any]]
ReadMask = Callable[[Window], Mask | None]


def output_kind(path: Path, source: SceneInfo) -> Kind:
    """What to write by the ending of `path`; no ending means the kind of the input. Raises UsageError for others."""
    suffix = path.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return "raster"
    if suffix and suffix not in SUFFIXES:
        raise UsageError(
            f"{path.name} ends in {suffix}, and a scene is written as GeoTIFF, PNG, JPEG or WebP. "
            f"Use .tif, .png, .jpg or .webp."
        )
    kind = SUFFIXES.get(suffix, source.kind)
    if kind != "raster" and source.kind == "raster":
        raise UsageError(
            f"{path.name} is a picture, which cannot hold the grid of {source.name}. "
            f"Use the ending .tif, and --preview for a picture."
        )
    return kind


def layer_info(info: SceneInfo, names: tuple[str, ...], dtype: str, nodata: float | None) -> SceneInfo:
    """The same grid with other bands: an uncertainty, a mask, the weights."""
    n = len(names)
    return replace(
        info,
        kind="raster",
        dtype=np.dtype(dtype),
        colorinterp=(ColorInterp.gray, *[ColorInterp.undefined] * (n - 1)),
        nodata=(nodata,) * n,
        descriptions=names,
        scales=(1.0,) * n,
        offsets=(0.0,) * n,
        units=(None,) * n,
        tags={"": {k: v for k, v in info.tags.get("", {}).items() if k == "AREA_OR_POINT"}},
        band_tags=({},) * n,
        layout={},
        internal_mask=False,
    )


def write_geotiff(
    path: Path, info: SceneInfo, rows: ReadRows, mask: ReadMask | None = None, cog_resampling: str | None = None
) -> None:
    """Write the scene `info` at `path`, pixels from `rows(window)` [C, h, W], asked for once, from top to bottom, by a
    thread that is a window ahead.

    With `cog_resampling` ("average", "nearest") it is a Cloud Optimized GeoTIFF whose overviews are made that way.
    Raises UncloudedError if it cannot be written; what is at `path` then is not to be used.
    """
    options = {"GDAL_TIFF_INTERNAL_MASK": True, "GDAL_NUM_THREADS": "ALL_CPUS"}
    files = WatchedFiles()
    with writing(path), warnings.catch_warnings(), rasterio.Env(**options):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path, "w", opener=files, **_profile(info)) as file:
                _describe(file, info)
                read = ((window, rows(window), mask(window) if mask else None) for window in _windows(info))
                with closing(ahead(read)) as parts:
                    for window, pixels, inside in parts:
                        file.write(pixels, window=gdal_window(window))
                        if inside is not None:
                            file.write_mask(inside, window=gdal_window(window))
                        files.check()
        finally:
            files.check()  # the reason of what GDAL says, if it says anything
        if cog_resampling is not None:
            _make_cog(path, info, cog_resampling)


def copy_geotiff(path: Path, source: Path, info: SceneInfo, rows: ReadRows) -> None:
    """Write the scene `info` at `path` as a copy of the bytes of `source`, whose pixels it has, with its tags besides.

    `rows` is asked for every row as `write_geotiff` does, so that a damaged `source` is noticed. Raises UncloudedError.
    """
    for window in _windows(info):
        rows(window)
    files = WatchedFiles()
    with writing(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        shutil.copyfile(source, path)
        try:
            with rasterio.open(path, "r+", opener=files) as file:
                file.update_tags(**info.tags.get("", {}))
        finally:
            files.check()


def _make_cog(path: Path, info: SceneInfo, resampling: str) -> None:
    """Replace the GeoTIFF at `path` by a cloud-optimised copy with overviews and statistics, and compare the two."""
    plain = path.with_name(f"plain_{path.name}")
    path.replace(plain)
    options = {
        "compress": "deflate",
        "predictor": "yes",
        "overview_resampling": resampling,
        "bigtiff": "if_safer",
        "num_threads": "all_cpus",
        "copy_src_mdd": "yes" if custom_domains(info) else "auto",
    }
    rasterio.shutil.copy(plain, path, driver="COG", **options)
    _check_copy(path, plain, info)
    plain.unlink()


def custom_domains(info: SceneInfo) -> bool:
    """Whether tags lie outside the default domain: a copy by GDAL keeps those, or the bands' own tags, never both."""
    return any(domain and tags for domain, tags in info.tags.items())


def _profile(info: SceneInfo) -> dict[str, Any]:
    colours = info.colorinterp
    profile = {
        "driver": "GTiff",
        "height": info.height,
        "width": info.width,
        "count": info.count,
        "dtype": info.dtype.name,
        "nodata": info.nodata[0] if info.nodata else None,
        "photometric": "RGB" if colours[:3] == RGB else "MINISBLACK",
        "BIGTIFF": "IF_SAFER",
        **_blocks(info),
    }
    if info.crs is not None and not info.gcps:
        profile["crs"] = info.crs
    if not info.transform.is_identity and not info.gcps:
        profile["transform"] = info.transform
    return profile


def _blocks(info: SceneInfo) -> dict[str, Any]:
    """The input's own block layout and compression, where they keep every bit."""
    layout = info.layout
    if not layout:
        return {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    blocks: dict[str, Any] = {"interleave": layout.get("interleave", "pixel")}
    if layout.get("tiled") and layout["blockxsize"] % 16 == 0 and layout["blockysize"] % 16 == 0:
        blocks |= {"tiled": True, "blockxsize": layout["blockxsize"], "blockysize": layout["blockysize"]}
    elif not layout.get("tiled"):
        blocks["blockysize"] = layout["blockysize"]
    compress = str(layout.get("compress", "none")).lower()
    if compress != "none":
        blocks["compress"] = compress if compress in LOSSLESS else "deflate"
        if compress in ("deflate", "lzw", "zstd") and "predictor" in layout:
            blocks["predictor"] = layout["predictor"]
    return blocks


def _describe(file: Any, info: SceneInfo) -> None:
    """All of the scene but its pixels; the colours first, since GDAL fixes them at the first write."""
    file.colorinterp = info.colorinterp
    if info.descriptions:
        file.descriptions = info.descriptions
    if set(info.scales) - {1.0} or set(info.offsets) - {0.0}:
        file.scales, file.offsets = info.scales, info.offsets
    for band, unit in enumerate(info.units, start=1):
        if unit:
            file.set_band_unit(band, unit)
    if info.gcps:
        file.gcps = (list(info.gcps), info.gcps_crs)
    if info.rpcs is not None:
        file.rpcs = info.rpcs
    for domain, tags in info.tags.items():
        if tags:
            file.update_tags(ns=domain or None, **tags)
    for band, tags in enumerate(info.band_tags, start=1):
        if tags:
            file.update_tags(band, **tags)


def _windows(info: SceneInfo) -> Iterator[Window]:
    """Strips of whole rows of blocks, so that no compressed block is written twice."""
    block = int(_blocks(info).get("blockysize", ROWS_AT_ONCE))
    step = block * max(1, ROWS_AT_ONCE // block)
    for row in range(0, info.height, step):
        yield Window(row, 0, min(step, info.height - row), info.width)


def _check_copy(path: Path, plain: Path, info: SceneInfo) -> None:
    try:
        with rasterio.open(path) as a, rasterio.open(plain) as b:
            windows = map(gdal_window, _windows(info))
            whole = all(_same(a.read(window=window), b.read(window=window)) for window in windows)
    except RasterioIOError:
        whole = False
    if not whole:
        raise no_room(path)


def write_categories(path: Path, names: Sequence[str]) -> None:
    """Name the values 0, 1, … of a one-band raster in GDAL's sidecar file, where QGIS and GDAL look for them."""
    categories = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    _write_sidecar(path, {1: f"<CategoryNames>{categories}</CategoryNames>"})


def write_band_tags(path: Path, tags: Sequence[Mapping[str, str]]) -> None:
    """Put the tags of every band into GDAL's sidecar file of a raster that could not hold them."""
    entries = {
        band: "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in of_band.items())
        for band, of_band in enumerate(tags, start=1)
    }
    _write_sidecar(path, {band: f"<Metadata>{entry}</Metadata>" for band, entry in entries.items() if entry})


def _write_sidecar(path: Path, bands: Mapping[int, str]) -> None:
    parts = "".join(f'<PAMRasterBand band="{band}">{inner}</PAMRasterBand>' for band, inner in bands.items())
    with writing(path):
        path.with_name(f"{path.name}.aux.xml").write_text(f"<PAMDataset>{parts}</PAMDataset>\n", encoding="utf-8")


def remove_sidecars(path: Path) -> None:
    """Take away what GDAL would read as statistics, overviews and mask of the file that is about to be replaced."""
    with writing(path):
        for suffix in (".aux.xml", ".ovr", ".msk"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")

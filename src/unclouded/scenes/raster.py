"""Scenes on disk, read by windows: what a scene is (`SceneInfo`) and rasters that GDAL reads (`RasterScene`).

Pictures (PNG, JPEG, WebP) are in `pictures.py`; `opening.py` chooses. Pixels are DN in the file's dtype, [C, H, W].
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import rasterio
import rasterio.windows
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning

from unclouded.errors import UncloudedError
from unclouded.scenes.bands import fits
from unclouded.scenes.failures import reading
from unclouded.scenes.names import is_address
from unclouded.scenes.tiles import Window

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Kind = Literal["raster", "png", "jpeg", "webp"]

MAX_BANDS = 16
CACHE_BYTES = 64 << 20  # GDAL's block cache at least; its default is a share of the machine's memory
MOST_CACHE_BYTES = 1 << 30
CLASSIC_TIFF_BYTES = (1 << 32) - (1 << 20)  # beyond, there may be no room for tags
# domains that GDAL makes by itself or that have a setter of their own
OWN_DOMAINS = {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "COLOR_PROFILE", "TIFF", "EXIF"}


@dataclass(frozen=True)
class SceneInfo:
    """Everything of a scene but its pixels. Band numbers are 1-based, as GDAL's."""

    name: str
    kind: Kind
    height: int
    width: int
    dtype: np.dtype[Any]
    colorinterp: tuple[ColorInterp, ...]
    nodata: tuple[float | None, ...]
    descriptions: tuple[str | None, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    crs: Any = None
    transform: Affine = field(default_factory=Affine.identity)
    gcps: tuple[GroundControlPoint, ...] = ()
    gcps_crs: Any = None
    rpcs: Any = None
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    band_tags: tuple[dict[str, str], ...] = ()
    layout: dict[str, Any] = field(default_factory=dict)
    internal_mask: bool = False

    @property
    def count(self) -> int:
        return len(self.colorinterp)

    @property
    def alpha(self) -> int | None:
        """The band that says where the scene has data, if there is one besides the data."""
        if self.count == 1 or ColorInterp.alpha not in self.colorinterp:
            return None
        return self.colorinterp.index(ColorInterp.alpha) + 1

    @property
    def data_bands(self) -> tuple[int, ...]:
        return tuple(b for b in range(1, self.count + 1) if b != self.alpha)


class Scene(Protocol):
    """A scene that is open for reading."""

    info: SceneInfo

    def read(self, window: Window, indexes: Sequence[int] | None = None) -> Array:
        """DN [C, h, w] of the bands `indexes` (all if None). Raises UncloudedError if the file is damaged there."""

    def read_mask(self, window: Window) -> Mask | None:
        """Where the internal mask says that there is data, [h, w]; None if the scene has no such mask."""

    def thumbnail(self, longest: int, indexes: Sequence[int]) -> Array:
        """DN [C, h, w] of the whole scene, both sides at most `longest`, every pixel one of the scene's."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RasterScene:
    """Any raster that GDAL reads."""

    def __init__(self, name: str) -> None:
        with reading(name), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._file = rasterio.open(name)
        try:
            with reading(name):
                self.info = describe(self._file, name)
        except BaseException:
            self._file.close()
            raise

    @property
    def geotiff(self) -> Path | None:
        """The local GeoTIFF that is the whole scene and can take further tags. None if parts of it are in files beside,
        if it may have no room for them, or if the order of its bytes makes it cloud-optimised, which they would undo.
        """
        file, path = self._file, Path(self.info.name)
        if file.driver != "GTiff" or is_address(self.info.name) or file.files != [self.info.name]:
            return None
        optimised = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        return None if optimised or path.stat().st_size > CLASSIC_TIFF_BYTES else path

    def read(self, window: Window, indexes: Sequence[int] | None = None) -> Array:
        with reading(self.info.name):
            bands = None if indexes is None else list(indexes)
            pixels: Array = self._file.read(bands, window=gdal_window(window))
            return pixels

    def read_mask(self, window: Window) -> Mask | None:
        if not self.info.internal_mask:
            return None
        with reading(self.info.name):
            return np.asarray(self._file.read_masks(1, window=gdal_window(window)) != 0)

    def thumbnail(self, longest: int, indexes: Sequence[int]) -> Array:
        step = max(1, -(-max(self.info.height, self.info.width) // longest))
        shape = (len(indexes), -(-self.info.height // step), -(-self.info.width // step))
        with reading(self.info.name):
            pixels: Array = self._file.read(list(indexes), out_shape=shape, resampling=Resampling.nearest)
            return pixels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def cache_bytes(info: SceneInfo) -> int:
    """GDAL's block cache for reading this scene: three rows of blocks; less would decode them again and again."""
    rows = int(info.layout.get("blockysize", 256))
    needed = 3 * rows * info.width * info.count * info.dtype.itemsize
    return min(max(needed, CACHE_BYTES), MOST_CACHE_BYTES)


def gdal_window(window: Window) -> rasterio.windows.Window:
    return rasterio.windows.Window(window.col, window.row, window.width, window.height)


def describe(file: Any, name: str) -> SceneInfo:
    """SceneInfo of an open rasterio dataset. Raises UncloudedError for what cannot be restored."""
    check_dtypes(name, file.dtypes)
    if file.count > MAX_BANDS + (ColorInterp.alpha in file.colorinterp):
        raise UncloudedError(
            f"{name} has {file.count} bands, and at most {MAX_BANDS} can be carried. "
            f"Choose some first, for example with gdal_translate -b 1 -b 2 -b 3."
        )
    if ColorInterp.palette in file.colorinterp:
        raise UncloudedError(
            f"{name} stores palette entries, not colours. Expand it first: gdal_translate -expand rgb {name} rgb.tif."
        )
    gcps, gcps_crs = file.gcps
    return SceneInfo(
        name=name,
        kind="raster",
        height=file.height,
        width=file.width,
        dtype=np.dtype(file.dtypes[0]),
        colorinterp=tuple(file.colorinterp),
        nodata=tuple(None if n is None or not fits(n, file.dtypes[0]) else n for n in file.nodatavals),
        descriptions=tuple(file.descriptions),
        scales=tuple(file.scales),
        offsets=tuple(file.offsets),
        units=tuple(file.units),
        crs=file.crs,
        transform=file.transform,
        gcps=tuple(gcps),
        gcps_crs=gcps_crs,
        rpcs=file.rpcs,
        tags=_all_tags(file),
        band_tags=tuple(file.tags(b) for b in file.indexes),
        layout=_layout(file),
        internal_mask=MaskFlags.per_dataset in file.mask_flag_enums[0]
        and MaskFlags.alpha not in file.mask_flag_enums[0],
    )


def check_dtypes(name: str, dtypes: Sequence[str]) -> None:
    """Refuse a scene without bands, of mixed types, or of complex numbers."""
    if not dtypes:
        raise UncloudedError(
            f"{name} has no bands of its own. If it is a container, give one of its subdatasets; see gdalinfo {name}."
        )
    if len(set(dtypes)) > 1:
        raise UncloudedError(
            f"{name} mixes the types {', '.join(sorted(set(dtypes)))}, and one file is written with one type. "
            f"Convert it first, for example with gdal_translate -ot Float32."
        )
    if "complex" in dtypes[0]:
        raise UncloudedError(f"{name} holds complex numbers ({dtypes[0]}). Give an optical scene of real numbers.")


def _all_tags(file: Any) -> dict[str, dict[str, str]]:
    """Metadata by domain; the default domain is ''."""
    domains = [d for d in file.tag_namespaces() if d not in OWN_DOMAINS and not d.startswith("xml:")]
    return {"": file.tags(), **{d: file.tags(ns=d) for d in domains}}


def _layout(file: Any) -> dict[str, Any]:
    """How the file's blocks are arranged and packed, for a GeoTIFF like it."""
    if file.driver not in ("GTiff", "COG"):
        return {}
    profile = file.profile
    kept = {
        key: profile[key] for key in ("tiled", "blockxsize", "blockysize", "interleave", "compress") if key in profile
    }
    predictor = file.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR")
    return {**kept, "predictor": predictor} if predictor else kept


def sample_valid(dn: Array, info: SceneInfo, indexes: Sequence[int], where: Mask | None = None) -> Mask:
    """Which of `dn` [C, H, W] (scene bands `indexes`) are data: finite, not nodata, and inside `where` [H, W]."""
    valid = np.isfinite(dn) if dn.dtype.kind == "f" else np.ones(dn.shape, bool)
    for channel, index in enumerate(indexes):
        nodata = info.nodata[index - 1]
        if nodata is not None and not np.isnan(nodata):
            valid[channel] &= dn[channel] != dn.dtype.type(nodata)
    if where is not None:
        valid &= where
    return valid

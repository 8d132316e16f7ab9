"""A STAC Item beside the output: what it is, where it lies, what made it, and what it was derived from.

Needs the extra `stac` (pystac). Fields: the core of STAC 1.1, the projection extension, the processing extension, and
`unclouded:*`, which repeat the tags of the files.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.transform import Affine, from_gcps
from rasterio.warp import transform_geom

from unclouded.errors import UsageError
from unclouded.scenes.failures import writing
from unclouded.scenes.names import is_address, without_secrets
from unclouded.scenes.products import MASK, SCENE, UNCERTAINTY, WEIGHTS, Product
from unclouded.scenes.provenance import PREFIX
from unclouded.scenes.raster import SceneInfo

if TYPE_CHECKING:
    import pystac

PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
MEDIA = {"raster": "image/tiff; application=geotiff", "png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
ASSETS = {  # layer -> title, roles
    SCENE: ("The scene without clouds", ("data",)),
    MASK: ("What was synthesised: 0 input, 1 blended, 2 synthesised, 255 nodata", ("data-mask", "metadata")),
    UNCERTAINTY: ("Standard deviation of the synthesised values, in scene units", ("uncertainty", "metadata")),
    WEIGHTS: ("Weight of the reference prior", ("metadata",)),
}
NAMES = {SCENE: "output"}  # of assets, where not the layer's own
BESIDE = {"preview": ("image/png", ("overview",)), "report": ("text/html", ("metadata",))}
# where products say when they were acquired (GDAL's IMAGERY domain first), in the order of trust
ACQUIRED = (
    "ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "DATATAKE_1_DATATAKE_SENSING_START", "PRODUCT_START_TIME",
    "SENSING_TIME", "DATE_ACQUIRED", "ACQUISITION_DATE", "TIFFTAG_DATETIME",
)  # fmt: skip


def check_pystac() -> None:
    """Raises UsageError, saying how to install it, if pystac is absent."""
    try:
        import pystac  # noqa: F401
    except ImportError as error:
        raise UsageError("--stac needs pystac. Install it with: pip install 'unclouded[stac]'.") from error


def acquired(info: SceneInfo) -> datetime | None:
    """When the scene was taken, by its tags (UTC if they name no zone); None if they do not say."""
    tags = {key.upper(): value for domain in ("", "IMAGERY") for key, value in info.tags.get(domain, {}).items()}
    for key in ACQUIRED:
        text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", tags.get(key, "").strip())
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            continue
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def write_stac(
    path: Path,
    source: SceneInfo,
    products: Sequence[Product],
    tags: Mapping[str, str],
    pixels: Mapping[str, int],
    beside: Mapping[str, Path],
    cog: bool = False,
) -> None:
    """Write the Item of a run to `path`, whole or not at all.

    `tags` are the files' provenance tags, `pixels` the counts of the mask's classes, `beside` the further files
    ("preview", "report"). A scene that does not tell when it was taken gets the day of the run. Raises UncloudedError.
    """
    item = _item(path, source, tags, pixels)
    for product in products:
        name = NAMES.get(product.layer, product.layer)
        item.add_asset(name, _asset(product, path.parent, cog))
    for name, (media, roles) in BESIDE.items():
        if name in beside:
            item.add_asset(name, _plain_asset(beside[name], path.parent, media, roles))
    fresh = path.with_name(f".{path.name}.part")
    with writing(path):
        try:
            fresh.write_text(json.dumps(item.to_dict(include_self_link=False), indent=2) + "\n", encoding="utf-8")
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)


def _item(path: Path, source: SceneInfo, tags: Mapping[str, str], pixels: Mapping[str, int]) -> "pystac.Item":
    import pystac
    from pystac.utils import datetime_to_str

    run_day = datetime.fromisoformat(tags[f"{PREFIX}DATE"]).replace(tzinfo=UTC)
    geometry, bbox = _footprint(source)
    ours = {f"unclouded:{k.removeprefix(PREFIX).lower()}": v for k, v in tags.items() if k.startswith(PREFIX)}
    version = tags[f"{PREFIX}VERSION"]
    properties = {
        "processing:software": {"unclouded": version},
        "processing:version": version,
        "processing:datetime": datetime_to_str(run_day),
        "processing:lineage": (
            f"Clouds removed by the model {tags[f'{PREFIX}MODEL']}. Synthesised pixels are estimates, not observations."
        ),
        **ours,
        "unclouded:pixels": dict(pixels),
    }
    moment = acquired(source) or run_day
    item = pystac.Item(path.stem, geometry, bbox, moment, properties, stac_extensions=[PROCESSING])
    _project(item, source)
    href, media = _source_href(source.name, path.parent), MEDIA[source.kind]
    item.add_link(pystac.Link(pystac.RelType.DERIVED_FROM, href, media, "The cloudy scene"))
    return item


def _placed(info: SceneInfo) -> tuple[Any, Affine] | None:
    """Coordinate system and transform, from control points if need be; None if the scene has no place."""
    if info.gcps and info.gcps_crs is not None:
        return info.gcps_crs, from_gcps(info.gcps)
    return None if info.crs is None or info.transform.is_identity else (info.crs, info.transform)


def _footprint(info: SceneInfo) -> tuple[dict[str, Any] | None, list[float] | None]:
    """The scene's outline in longitude and latitude, and its box."""
    placed = _placed(info)
    if placed is None:
        return None, None
    crs, t = placed
    corners = [(0, 0), (0, info.height), (info.width, info.height), (info.width, 0), (0, 0)]
    ring = [(t.a * col + t.b * row + t.c, t.d * col + t.e * row + t.f) for col, row in corners]
    geometry = transform_geom(crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]}, precision=9)
    outline = [[float(x), float(y)] for x, y in geometry["coordinates"][0]]
    x, y = np.array(outline).T
    box = [float(v) for v in (x.min(), y.min(), x.max(), y.max())]
    return {"type": "Polygon", "coordinates": [outline]}, box


def _project(item: "pystac.Item", info: SceneInfo) -> None:
    from pystac.extensions.projection import ProjectionExtension

    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.shape = [info.height, info.width]
    if info.crs is not None and not info.gcps:
        epsg = info.crs.to_epsg()
        projection.apply(
            epsg=epsg,
            wkt2=None if epsg else info.crs.to_wkt(version="WKT2_2019"),
            shape=projection.shape,
            transform=None if info.transform.is_identity else [float(v) for v in info.transform[:6]],
        )


def _source_href(name: str, folder: Path) -> str:
    """The input as a link: a path relative to the Item, or the name as GDAL was given it."""
    for remote in ("/vsicurl/", "/vsicurl_streaming/"):
        if name.startswith(remote):
            return name.removeprefix(remote)
    return without_secrets(name) if is_address(name) else _href(Path(name), folder)


def _href(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _asset(product: Product, folder: Path, cog: bool) -> "pystac.Asset":
    title, roles = ASSETS[product.layer]
    media = COG if cog and product.kind == "raster" else MEDIA[product.kind]
    asset = _plain_asset(product.path, folder, media, roles)
    asset.title = title
    asset.extra_fields["bands"] = _bands(product.info)
    return asset


def _plain_asset(path: Path, folder: Path, media: str, roles: Sequence[str]) -> "pystac.Asset":
    import pystac

    return pystac.Asset(_href(path, folder), media_type=media, roles=list(roles))


def _bands(info: SceneInfo) -> list[dict[str, Any]]:
    """STAC 1.1's bands: name, type, nodata and unit."""
    bands = []
    for number in range(1, info.count + 1):
        description = info.descriptions[number - 1] if info.descriptions else None
        band: dict[str, Any] = {"name": description or f"band{number}", "data_type": info.dtype.name}
        nodata = info.nodata[number - 1] if info.nodata else None
        if nodata is not None:
            band["nodata"] = nodata if np.isfinite(nodata) else "nan" if np.isnan(nodata) else f"{nodata}"
        unit = info.units[number - 1] if info.units else None
        bands.append(band | ({"unit": unit} if unit else {}))
    return bands

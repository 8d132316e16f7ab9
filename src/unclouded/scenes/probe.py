"""A first look at a scene: which of its bands the model sees, where it has data, which numbers are dark and bright."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import BandSet, DnRange, check_fit
from unclouded.scenes.raster import Array, Mask, Scene, SceneInfo, sample_valid
from unclouded.scenes.tiles import Window

SAMPLE_WINDOWS = 8  # along each axis
SAMPLE_SIDE = 128
QUANTILE_SAMPLES = 2**17
LARGEST_STEP = 512  # in larger blocks some windows begin inside
SCAN_ROWS = 256
# what products call their bands, in lower case without leading zeros: Sentinel-2's numbers first
SYNONYMS = {
    "coastal": "b1",
    "blue": "b2",
    "green": "b3",
    "red": "b4",
    "nir": "b8",
    "swir1": "b11",
    "swir2": "b12",
}


def match_bands(info: SceneInfo, model: BandSet, chosen: Sequence[int] | None) -> tuple[int, ...]:
    """The scene band (1-based) of every model channel.

    In order: the user's choice; bands whose descriptions or colours carry the model's names; equal counts in file
    order. Raises UsageError for a choice that is impossible and UncloudedError if nothing fits, both naming --bands.
    """
    if chosen is not None:
        return _checked_choice(info, model, tuple(chosen))
    named = bands_by_name(info, model.names)
    if named is not None:
        return named
    if len(info.data_bands) == len(model):
        return info.data_bands
    example = ",".join(str(min(b, len(info.data_bands))) for b in range(1, len(model) + 1))
    raise UncloudedError(
        f"The model wants {_count(len(model))} ({', '.join(model.names)}), and {info.name} has {_count(info.count)}"
        f"{_listed(info)}. Choose the model's bands in that order with --bands, for example --bands {example}."
    )


def _checked_choice(info: SceneInfo, model: BandSet, chosen: tuple[int, ...]) -> tuple[int, ...]:
    if len(chosen) != len(model):
        raise UsageError(
            f"The model wants {_count(len(model))} ({', '.join(model.names)}), and --bands gives {len(chosen)}. "
            f"Give {len(model)} band numbers in that order."
        )
    outside = [b for b in chosen if not 1 <= b <= info.count]
    if outside:
        raise UsageError(
            f"{info.name} has no band {outside[0]}, only 1 to {info.count}{_listed(info)}. Choose others with --bands."
        )
    return chosen


def _count(n: int) -> str:
    return f"{n} band" if n == 1 else f"{n} bands"


def _listed(info: SceneInfo) -> str:
    names = [name or colour.name for name, colour in zip(info.descriptions, info.colorinterp, strict=True)]
    known = [f"{i} {name}" for i, name in enumerate(names, start=1) if name not in ("undefined", "")]
    return f" ({', '.join(known)})" if known else ""


def bands_by_name(info: SceneInfo, names: Sequence[str]) -> tuple[int, ...] | None:
    """The scene band (1-based) that carries each of these names; None unless each has one of its own."""
    found = [_find(info, name.lower()) for name in names]
    return None if None in found or len(set(found)) < len(found) else tuple(b for b in found if b)


def _find(info: SceneInfo, name: str) -> int | None:
    """The only band that its description, else its colour, calls `name`."""
    called = {name, SYNONYMS.get(name, name)}
    described = [b for b in info.data_bands if plain_name(info.descriptions[b - 1]) in called]
    coloured = [b for b in info.data_bands if info.colorinterp[b - 1].name == name]
    for candidates in (described, coloured):
        if candidates:
            return candidates[0] if len(candidates) == 1 else None
    return None


def plain_name(description: str | None) -> str:
    """A band's name as products agree on it: lower case, B02 as b2; empty if there is none."""
    return re.sub(r"^b0+", "b", (description or "").strip().lower())


def data_mask(scene: Scene, window: Window, bands: Sequence[int], dn: Array | None = None) -> Mask | None:
    """Where alpha band and internal mask leave data, [h, w]; None if the scene has neither.

    An alpha band that is among `bands` is data, not alpha. `dn` are all bands of the window, if they were read already.
    """
    where = scene.read_mask(window)
    alpha = scene.info.alpha
    if alpha is None or alpha in bands:
        return where
    opaque: Mask = (scene.read(window, [alpha])[0] if dn is None else dn[alpha - 1]) != 0
    return opaque if where is None else where & opaque


def sample(scene: Scene, bands: Sequence[int]) -> NDArray[np.float64]:
    """Median, 99.5 % quantile and maximum [3, C] of the valid DN, from at most 8 × 8 windows of 128 × 128 pixels spread
    over the scene, so that little of a large one is decoded.

    Raises UncloudedError if no pixel of the scene has data.
    """
    indexes = list(bands)
    looks = [_look(scene, window, indexes) for window in sample_windows(scene.info)]
    found = [np.concatenate([dn[c][valid[c]] for dn, valid in looks]) for c in range(len(indexes))]
    if not all(map(len, found)):
        dn, valid = _scan(scene, indexes)
        found = [dn[c][valid[c]] for c in range(len(indexes))]
    columns = [(*np.quantile(_thinned(band), (0.5, 0.995)), band.max()) for band in found]
    return np.array(columns, dtype=np.float64).T


def _thinned(values: Array) -> Array:
    """Evenly spaced ones, fewer than twice QUANTILE_SAMPLES; of 2^17, the median is off by 0.1 % in rank."""
    return values[:: max(1, len(values) // QUANTILE_SAMPLES)]


def sample_windows(info: SceneInfo) -> list[Window]:
    """Windows that do not overlap, all of a small scene; in a tiled one they begin with a block, to decode few."""
    layout = info.layout if info.layout.get("tiled") else {}
    rows = _spread(info.height, min(int(layout.get("blockysize", 1)), LARGEST_STEP))
    cols = _spread(info.width, min(int(layout.get("blockxsize", 1)), LARGEST_STEP))
    return [Window(row, col, height, width) for row, height in rows for col, width in cols]


def _spread(size: int, block: int) -> list[tuple[int, int]]:
    """Starts and lengths of the windows along one axis."""
    if size <= SAMPLE_WINDOWS * SAMPLE_SIDE:
        return [(0, size)]
    places = (size - SAMPLE_SIDE) * np.arange(SAMPLE_WINDOWS) // (SAMPLE_WINDOWS - 1)
    return [(start, min(SAMPLE_SIDE, size - start)) for start in sorted({int(p) // block * block for p in places})]


def _look(scene: Scene, window: Window, bands: list[int]) -> tuple[Array, Mask]:
    dn = scene.read(window, bands)
    return dn, sample_valid(dn, scene.info, bands, data_mask(scene, window, bands))


def _scan(scene: Scene, bands: list[int]) -> tuple[Array, Mask]:
    """The first strip in which every band has data, found by reading on from the top."""
    info = scene.info
    for row in range(0, info.height, SCAN_ROWS):
        window = Window(row, 0, min(SCAN_ROWS, info.height - row), info.width)
        dn, valid = _look(scene, window, bands)
        if valid.any(axis=(1, 2)).all():
            return dn, valid
    raise UncloudedError(
        f"{info.name} has no data: every pixel of a band to restore is nodata, transparent, NaN or infinite. "
        f"Check the file, its nodata value ({info.nodata[bands[0] - 1]}), or choose other bands with --bands."
    )


def find_range(
    info: SceneInfo,
    model: BandSet,
    bands: Sequence[int],
    quantiles: Array,
    chosen: tuple[float, float] | None,
    reflectance: tuple[float, float] | None = None,
) -> DnRange:
    """Which DN are 0 and 1 to the model: the user's range or scale and offset, else the file's own, else its dtype's.

    Pictures of 16 bits span the whole 16 bits. Raises UncloudedError if the scene's numbers evidently do not fit.
    """
    if chosen is not None:
        return model.same_range(*chosen)
    scaling = _scaling(info, bands, reflectance)
    if scaling is None and info.kind != "raster" and info.dtype.itemsize == 2:
        return model.same_range(0.0, 65535.0)
    dn_range = model.dn_range(info.dtype, *(scaling or ()))
    check_fit(dn_range, model, quantiles, info.dtype)
    return dn_range


def _scaling(
    info: SceneInfo, bands: Sequence[int], reflectance: tuple[float, float] | None
) -> tuple[list[float], list[float]] | None:
    if reflectance is not None:
        if not np.isfinite(reflectance).all() or not reflectance[0]:
            raise UsageError(
                f"A reflectance of number × {reflectance[0]:g} + {reflectance[1]:g} says nothing. "
                f"Give --reflectance SCALE,OFFSET with a finite SCALE other than 0."
            )
        return [reflectance[0]] * len(bands), [reflectance[1]] * len(bands)
    scales, offsets = ([values[b - 1] for b in bands] for values in (info.scales, info.offsets))
    told = any(s not in (0.0, 1.0) for s in scales) or any(offsets)
    if not told or not all(np.isfinite([*scales, *offsets])) or 0.0 in scales:
        return None
    return scales, offsets


def passed_through(info: SceneInfo, bands: Sequence[int]) -> tuple[int, ...]:
    """The scene bands that are copied as they are."""
    return tuple(b for b in range(1, info.count + 1) if b not in bands)


def facts(info: SceneInfo) -> dict[str, Any]:
    """What identifies a scene's grid and numbers, as plain JSON values."""
    return {
        "height": info.height,
        "width": info.width,
        "bands": info.count,
        "dtype": info.dtype.name,
        "crs": None if info.crs is None else info.crs.to_string(),
        "transform": list(info.transform)[:6],
    }

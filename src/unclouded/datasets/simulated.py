"""Pair folders of simulated clouds: over a folder of clear images, or over generated landscapes.

The result is read like any other pair folder: `cloud/` and `label/` with equal stems, and a `pairs.csv` that also tells
how each pair was made. Pair i depends on (seed, i) alone, so an interrupted run goes on where it stopped, and a longer
run keeps the pairs of a shorter one. Files that exist are kept; other settings in the same folder are refused.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine

from unclouded.datasets.images import RASTERS, read_image, write_tiff
from unclouded.datasets.manifest import MANIFEST
from unclouded.datasets.matching import list_images, natural
from unclouded.datasets.pairs import CLEAR_FOLDER, CLOUDY_FOLDER
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.landscape import BANDS as LANDSCAPE_BANDS
from unclouded.scenes.landscape import landscape
from unclouded.scenes.simulate import KINDS, Kind, simulate_clouds
from unclouded.scenes.spectra import wavelengths

SETTINGS = "simulated.json"
GSD_RANGE = (0.5, 30.0)  # metres, drawn where none is given
WHITE = {"uint8": 255.0, "uint16": 10000.0, "int16": 10000.0, "float32": 1.0, "float64": 1.0}  # the DN that is 1.0
_USUAL_BANDS = {
    1: ("gray",),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "nir"),
    12: tuple(f"B{n}" for n in ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "11", "12")),
    13: tuple(f"B{n}" for n in ("01", "02", "03", "04", "05", "06", "07", "08", "8A", "09", "10", "11", "12")),
}

Dn = NDArray[Any]


@dataclass(frozen=True)
class SimulationOptions:
    """How pairs are made; what is None is drawn anew for each pair. See `simulate_clouds` for the ranges."""

    kind: str = "all"  # a Kind, or all: drawn for each pair
    size: int | None = None  # side of the (random) crop; None: whole images, 256 for landscapes
    per_image: int = 1  # pairs from each clear image
    bands: tuple[str, ...] | None = None  # band names of the clear images; or which bands a landscape shall have
    gsd: float | None = None
    coverage: float | None = None
    opacity: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, "all"):
            raise UsageError(f"The cloud kind {self.kind!r} is unknown. Use all, {', '.join(get_args(Kind))}.")
        if self.per_image < 1 or (self.size is not None and self.size < 1):
            raise UsageError(f"size {self.size} and per-image {self.per_image} must be at least 1. Give larger ones.")
        if self.gsd is not None and not self.gsd > 0:
            raise UsageError(f"The ground sample distance is {self.gsd} m. Give a positive number of metres.")
        for name, share in (("coverage", self.coverage), ("opacity", self.opacity)):
            if share is not None and not 0 <= share <= 1:
                raise UsageError(f"{name} is {share}, outside 0 to 1. Give a share between 0 and 1.")
        if self.bands is not None:
            wavelengths(self.bands)


@dataclass(frozen=True)
class _Clear:
    """A clear image, DN [C, H, W], with where it lies (None: nowhere in particular)."""

    dn: Dn
    bands: tuple[str, ...]
    suffix: str
    transform: Affine | None = None
    crs: CRS | None = None


@dataclass(frozen=True)
class _Task:
    stem: str
    source: str
    make: Callable[[np.random.Generator, float], _Clear]


def simulate_pairs(
    out: Path, *, clear: Path | None = None, landscapes: int = 0, options: SimulationOptions | None = None
) -> Iterator[tuple[str, bool]]:
    """Make the pairs in `out`, yielding (stem, made now?) after each; `pairs.csv` is whole after every one.

    Give a folder of `clear` images or a number of `landscapes` (256 x 256 RGB unless the options say otherwise).
    Raises UsageError for wrong options and UncloudedError for images or folders that cannot be used.
    """
    options = options or SimulationOptions()
    if (clear is None) == (landscapes < 1):
        raise UsageError(
            "Nothing to put clouds over, or too much. Give a folder of clear images or a number of landscapes."
        )
    tasks = _landscape_tasks(landscapes, options) if clear is None else _image_tasks(clear, options)
    _claim(out, "landscapes" if clear is None else str(clear.resolve()), options)
    rows = _read_rows(out / MANIFEST)
    for index, task in enumerate(tasks):
        row = rows.get(task.stem)
        kept = row is not None and (out / row["cloudy"]).is_file() and (out / row["clear"]).is_file()
        if not kept:
            rows[task.stem] = _make(out, task, np.random.default_rng((options.seed, index)), options)
            _write_rows(out / MANIFEST, rows)
        yield task.stem, not kept


def count_pairs(clear: Path | None, landscapes: int, options: SimulationOptions) -> int:
    """How many pairs `simulate_pairs` will give."""
    return landscapes if clear is None else len(_image_tasks(clear, options))


def _landscape_tasks(count: int, options: SimulationOptions) -> list[_Task]:
    bands = options.bands or LANDSCAPE_BANDS[:3]
    unknown = [band for band in bands if band not in LANDSCAPE_BANDS]
    if unknown:
        raise UsageError(f"Landscapes have no band {unknown[0]!r}. Use some of {', '.join(LANDSCAPE_BANDS)}.")
    channels = [LANDSCAPE_BANDS.index(band) for band in bands]
    side = options.size or 256

    def make(rng: np.random.Generator, gsd: float) -> _Clear:
        dn = np.rint(landscape(rng, side, side, gsd=gsd)[channels] * 255).astype(np.uint8)
        grid = Affine(gsd, 0, 500_000, 0, -gsd, 5_200_000)
        return _Clear(dn, bands, ".png" if len(bands) in (1, 3) else ".tif", grid, CRS.from_epsg(32632))

    return [_Task(f"landscape_{i:05d}", "landscape", make) for i in range(count)]


def _image_tasks(folder: Path, options: SimulationOptions) -> list[_Task]:
    if not folder.is_dir():
        raise UncloudedError(f"There is no folder {folder}. Give a folder of clear images.")
    images = list_images(folder)
    if not images:
        raise UncloudedError(f"{folder} holds no images. Put PNG, JPEG, WebP or TIFF files there.")
    tasks = []
    for stem in sorted(images, key=natural):
        for copy in range(options.per_image):

            def make(rng: np.random.Generator, gsd: float, path: Path = images[stem]) -> _Clear:
                return _read_clear(path, rng, options)

            name = stem if options.per_image == 1 else f"{stem}_{copy}"
            tasks.append(_Task(name, images[stem].name, make))
    return tasks


def _read_clear(path: Path, rng: np.random.Generator, options: SimulationOptions) -> _Clear:
    dn = read_image(path)
    bands = options.bands or _USUAL_BANDS.get(len(dn))
    if bands is None or len(bands) != len(dn):
        named = "none are named" if bands is None else f"{len(bands)} are named"
        raise UsageError(f"{path} has {len(dn)} bands and {named}. Name them all with --bands red,green,blue,nir.")
    if dn.dtype.name not in WHITE:
        raise UncloudedError(f"{path} holds {dn.dtype}. Convert it to uint8, uint16, int16 or float32.")
    row = col = 0
    if options.size is not None:
        row, col = (int(rng.integers(max(n - options.size, 0) + 1)) for n in dn.shape[1:])
        dn = dn[:, row : row + options.size, col : col + options.size]
    if path.suffix.lower() in RASTERS:
        with rasterio.open(path) as file:
            return _Clear(dn, bands, ".tif", file.transform @ Affine.translation(col, row), file.crs)
    return _Clear(dn, bands, ".png" if dn.dtype == np.uint8 else ".tif")


def _make(out: Path, task: _Task, rng: np.random.Generator, options: SimulationOptions) -> dict[str, str]:
    gsd = options.gsd or float(np.exp(rng.uniform(*np.log(GSD_RANGE))))
    kind: Any = options.kind if options.kind != "all" else str(rng.choice(KINDS))
    clear = task.make(rng, gsd)
    white = WHITE[clear.dn.dtype.name]
    sample = simulate_clouds(
        np.clip(clear.dn / white, 0, 1).astype(np.float32),
        rng,
        kind=kind,
        bands=clear.bands,
        gsd=gsd,
        coverage=options.coverage,
        opacity=options.opacity,
    )
    touched = (sample.opacity > 0) | (sample.shadow > 0)
    scaled = sample.cloudy * np.float32(white)
    cloudy = (np.rint(scaled) if clear.dn.dtype.kind in "ui" else scaled).astype(clear.dn.dtype)
    cloudy = np.where(touched, cloudy, clear.dn)  # clear pixels keep their DN, even beyond white
    row = {"stem": task.stem, "cloudy": f"{CLOUDY_FOLDER}/{task.stem}{clear.suffix}"}
    row["clear"] = f"{CLEAR_FOLDER}/{task.stem}{clear.suffix}"
    _write_image(out / row["cloudy"], cloudy, clear)
    _write_image(out / row["clear"], clear.dn, clear)
    facts = {"kind": kind, "gsd": f"{gsd:.3g}", "cloudy_share": f"{touched.mean():.4f}", "source": task.source}
    return row | facts


def _write_image(path: Path, dn: Dn, clear: _Clear) -> None:
    """PNG or GeoTIFF, whole or not at all."""
    temporary = path.with_name(f".{path.name}")
    try:
        if path.suffix == ".png":
            Image.fromarray(dn[0] if len(dn) == 1 else np.moveaxis(dn, 0, -1)).save(temporary, format="PNG")
        else:
            transform = clear.transform or Affine.scale(1, -1)
            write_tiff(temporary, dn, clear.bands, crs=clear.crs, transform=transform)
        os.replace(temporary, path)
    except (OSError, RasterioError) as error:
        temporary.unlink(missing_ok=True)
        raise UncloudedError(f"{path} cannot be written ({error}). Make room, or choose another folder.") from error


def _claim(out: Path, source: str, options: SimulationOptions) -> None:
    """Make the folders and note the settings; refuse a folder that was made with others."""
    settings = json.loads(json.dumps({"source": source, **asdict(options)}))
    note = out / SETTINGS
    try:
        if note.exists():
            before = json.loads(note.read_text(encoding="utf-8"))
            changed = sorted(key for key in settings if before.get(key) != settings[key])
            if changed:
                old, new = before.get(changed[0]), settings[changed[0]]
                raise UncloudedError(
                    f"{out} was made with another {changed[0]} ({old!r}, now {new!r}). "
                    "Repeat the settings to go on, or choose another folder."
                )
        elif out.is_dir() and any(out.iterdir()):
            raise UncloudedError(
                f"{out} holds files that were not made by this command. Choose an empty or new folder."
            )
        for folder in (CLOUDY_FOLDER, CLEAR_FOLDER):
            (out / folder).mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UncloudedError(f"{out} cannot be used ({error}). Choose another folder.") from error


def _read_rows(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["stem"]: row for row in csv.DictReader(file)}


def _write_rows(path: Path, rows: dict[str, dict[str, str]]) -> None:
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(next(iter(rows.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
    os.replace(temporary, path)

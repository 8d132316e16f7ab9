"""One place: two scenes become aligned tiles in a folder of its own, which appears under its name when whole."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unclouded.datasets.preparing import coregister
from unclouded.datasets.preparing.coverage import Probability, brightening, cloud_net, mask_probability
from unclouded.datasets.preparing.grid import Grid, Pixels, common_grid, on_grid
from unclouded.datasets.preparing.jobs import Job, ScenePair
from unclouded.datasets.preparing.options import PrepareOptions
from unclouded.datasets.preparing.pansharpen import open_sharpened
from unclouded.datasets.preparing.writing import TileWriter
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.failures import writing
from unclouded.scenes.raster import describe
from unclouded.scenes.tiles import Window

RECORD = "place.json"


class _Scenes(NamedTuple):
    """Both scenes, open, sharpened where they have a panchromatic band, each on its own grid."""

    cloudy: Any
    clear: Any
    grid: Grid
    bands: tuple[str, ...]


def prepare_place(pair: ScenePair, job: Job, options: PrepareOptions, folder: Path) -> tuple[dict[str, Any], bool]:
    """Make the tiles of `pair` in `folder` unless they are there from the same inputs: (record, made now?).

    Raises UncloudedError, with the scene's name, for scenes that cannot be used or do not match.
    """
    inputs = fingerprint(pair, job, options)
    record = read_record(folder)
    if record is not None and record["inputs"] == inputs:
        return record, False
    partial = folder.with_name(f".{folder.name}.partial")
    with writing(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    with ExitStack() as files:
        scenes = _open(pair, job, options, files)
        match = _match(scenes, pair, options)
        record = _cut(scenes, pair, options, match, partial)
    record = {"inputs": inputs, "place": pair.place, "name": pair.name, "match": match._asdict(), **record}
    with writing(folder):
        (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    return record, True


def fingerprint(pair: ScenePair, job: Job, options: PrepareOptions) -> dict[str, Any]:
    """What the tiles of a place are made from: files by size and time of change, bands, options."""
    files = {}
    for column, path in pair.files.items():
        stat = path.stat()
        files[column] = [str(path), stat.st_size, stat.st_mtime_ns]
    return {"files": files, "bands": list(job.bands or ()), "place": pair.place, "options": options.of_place()}


def read_record(folder: Path) -> dict[str, Any] | None:
    """What is known of finished tiles; None where there are none."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UncloudedError(f"{folder / RECORD} is damaged. Remove the folder {folder} and run again.") from error
    return record


def _open(pair: ScenePair, job: Job, options: PrepareOptions, files: ExitStack) -> _Scenes:
    cloudy = files.enter_context(open_sharpened(pair.cloudy, pair.cloudy_pan))
    clear = files.enter_context(open_sharpened(pair.clear, pair.clear_pan))
    counts = [len(describe(file, str(path)).data_bands) for file, path in ((cloudy, pair.cloudy), (clear, pair.clear))]
    if counts[0] != counts[1]:
        raise UncloudedError(
            f"{pair.cloudy} has {counts[0]} bands, but {pair.clear} has {counts[1]}. Give scenes with equal bands."
        )
    return _Scenes(
        cloudy, clear, common_grid(clear, cloudy, options.pixel_size), job.band_names(counts[0], pair.cloudy)
    )


def _match(scenes: _Scenes, pair: ScenePair, options: PrepareOptions) -> coregister.Match:
    grid = scenes.grid

    def read(window: Window, shift: tuple[float, float]) -> tuple[coregister.Float, coregister.Float] | None:
        with on_grid(scenes.clear, grid) as clear, on_grid(scenes.cloudy, grid.moved(*shift)) as cloudy:
            images = [coregister.as_image(*scene.read(window)) for scene in (clear, cloudy)]
        return None if images[0] is None or images[1] is None else (images[0], images[1])

    return coregister.match(
        read,
        grid.height,
        grid.width,
        max_shift=options.max_shift,
        least_peak=options.least_peak,
        names=(str(pair.clear), str(pair.cloudy)),
    )


def _cut(
    scenes: _Scenes, pair: ScenePair, options: PrepareOptions, match: coregister.Match, folder: Path
) -> dict[str, Any]:
    """Write the tiles worth keeping; what is known of all tiles."""
    shift = (match.rows, match.cols)
    grid = common_grid(scenes.clear, scenes.cloudy, options.pixel_size, shift)
    moved = grid.moved(*shift)
    dtype = np.result_type(*scenes.cloudy.dtypes, *scenes.clear.dtypes)
    writer = TileWriter(folder, options, scenes.bands, dtype, grid, pair.cloudy)
    kept: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    with ExitStack() as files:
        cloudy = files.enter_context(on_grid(scenes.cloudy, moved))
        clear = files.enter_context(on_grid(scenes.clear, grid))
        probability = _probability(scenes, pair, options, moved, writer.range, files)
        for window in tiles(grid.height, grid.width, options.tile):
            seen = cloudy.read(window), clear.read(window)
            coverage, why = _judge(window, *seen, probability, options)
            facts = {"row": window.row, "col": window.col, "coverage": coverage}
            if why is None:
                stem = f"{pair.name}_{window.row}_{window.col}"
                writer.write(stem, window, seen[0].dn, seen[1].dn)
                kept.append({"stem": stem, **facts})
            else:
                left_out.append({**facts, "why": why})
    return {
        "grid": _grid_facts(grid),
        "bands": list(scenes.bands),
        "layers": writer.layers,
        "kept": kept,
        "left_out": left_out,
    }


def tiles(height: int, width: int, tile: int) -> Iterator[Window]:
    """Whole tiles side by side from the top left: no pixel is in two of them."""
    for row in range(0, height - tile + 1, tile):
        for col in range(0, width - tile + 1, tile):
            yield Window(row, col, tile, tile)


def _judge(
    window: Window, cloudy: Pixels, clear: Pixels, probability: Probability, options: PrepareOptions
) -> tuple[float | None, str | None]:
    """(coverage, why the tile is left out or None)."""
    if not (cloudy.valid.all() and clear.valid.all()):
        return None, "no data"
    cloud = probability(window, cloudy, clear)
    if np.isnan(cloud).any():
        return None, "no mask"
    coverage = round(float(cloud.mean(dtype=np.float64)), 6)
    if coverage < options.least_coverage:
        return coverage, "clear"
    return coverage, "obscured" if coverage > options.most_coverage else None


def _probability(
    scenes: _Scenes,
    pair: ScenePair,
    options: PrepareOptions,
    moved: Grid,
    levels: tuple[float, float] | None,
    files: ExitStack,
) -> Probability:
    if options.coverage != "mask":
        if levels is None:
            what = "Brightening" if options.coverage == "brightening" else "Cloud-Net"
            raise UsageError(f"{what} needs the DN of dark and white. Give --stretch LOW,HIGH, or masks.")
        if options.coverage == "cloud-net":
            return cloud_net(options.cloud_net, scenes.bands, *levels)
        return brightening(*levels)
    if pair.mask is None:
        raise UsageError(
            f"{pair.name} has no cloud mask. Give one in the job's `mask`, or choose --coverage cloud-net."
        )
    with open_sharpened(pair.cloudy, None) as file:
        size = (file.height, file.width)
    probability: Probability = files.enter_context(
        mask_probability(pair.mask, scenes.cloudy, size, moved, options.mask_values)
    )
    return probability


def _grid_facts(grid: Grid) -> dict[str, Any]:
    return {
        "crs": grid.crs.to_string(),
        "transform": list(grid.transform)[:6],
        "height": grid.height,
        "width": grid.width,
        "lonlat": list(grid.lonlat()),
    }

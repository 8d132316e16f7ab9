"""What a scene will cost, from a short measured warm-up: memory, and time; and how to stay below a limit."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.bands import DnRange
from unclouded.scenes.raster import cache_bytes
from unclouded.scenes.tiles import Window
from unclouded.strips import Job, restore_batch, schedule_of, threads_shared

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
STRIPS_ALIVE = 4  # being read, read ahead, being restored, being stored
WRITE_ROWS = 256
EVALUATIONS_TRIED = 4  # beyond the first
LEAST_TILES = 3  # side by side in the narrowest panel


class ScenePlan(BaseModel):
    """What `--dry-run` prints: what would be done, and about what it would cost."""

    model_config = ConfigDict(frozen=True)

    input: str
    output: str
    model: str
    scene: dict[str, Any]
    bands: dict[str, int]
    passed_through: tuple[int, ...]
    dn_range: DnRange
    dates: tuple[str, ...]
    sar: str | None
    mask: str
    tile: tuple[int, int]  # height, width
    overlap: int
    batch_size: int
    tiles: int  # with those that a mask will let skip
    panels: int
    memory_mb: int
    seconds: float
    files: dict[str, str]


class Cost(NamedTuple):
    """Of one tile."""

    seconds: float
    memory: int  # bytes


def parse_size(text: str) -> int:
    """`2GB`, `512MiB` or bytes. Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B?)\s*", text, re.IGNORECASE)
    unit = "" if match is None else match[2].upper()
    unit = unit if unit in UNITS else f"{unit}B"
    if match is None or unit not in UNITS:
        raise UsageError(f"The size {text!r} is not understood. Give it as in 2GB or 512MB.")
    return int(float(match[1]) * UNITS[unit])


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def warm_up(job: Job) -> Cost:
    """What a tile costs, from grey ones: one by itself for the memory, then one for each batch that the run has in work
    at a time for the seconds. Of many evaluations a few are run; the others are counted at what those took.
    """
    least = 2 if "spread" in job.layers else 1
    once = _with_evaluations(job, least)
    peak = _peak(once)
    seconds = _seconds(once)
    further = evaluations(job) - least
    if further > 0:
        tried = min(further, EVALUATIONS_TRIED)
        seconds += further / tried * max(0.0, _seconds(_with_evaluations(job, least + tried)) - seconds)
    return Cost(seconds, peak)


def evaluations(job: Job) -> int:
    """How often a tile goes through the networks that are sampled."""
    if job.sampling is None:
        return 1
    return job.sampling.samples * (1 if schedule_of(job.restorer) is None else job.sampling.steps)


def _with_evaluations(job: Job, n: int) -> Job:
    """The job with `n` samples of one step."""
    if job.sampling is None:
        return job
    sampling = job.sampling.model_copy(update={"steps": 1, "samples": n})
    return replace(job, sampling=sampling, weights_step=None)


def _restore_grey(job: Job) -> None:
    tile = Window(0, 0, job.grid.tile_height, job.grid.tile_width)
    restore_batch(job, np.full((1, job.channels_in, tile.height, tile.width), 0.5, np.float32), [tile])


def _seconds(job: Job) -> float:
    """Of one tile, as many in work as in the run."""
    with threads_shared(job.at_a_time), ThreadPoolExecutor(job.at_a_time) as pool:
        started = time.perf_counter()
        for future in [pool.submit(_restore_grey, job) for _ in range(job.at_a_time)]:
            future.result()
        return (time.perf_counter() - started) / job.at_a_time


def _peak(job: Job) -> int:
    """Memory of one tile above what was resident before."""
    before, peak, stop = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.002):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _restore_grey(job)
    finally:
        stop.set()
        watcher.join()
    return max(0, peak - before)


def column_bytes(job: Job) -> int:
    """Memory that one column of a panel takes while a row of tiles is worked on."""
    info, channels = job.scene.info, job.channels
    strip = info.count * info.dtype.itemsize + channels * (info.dtype.itemsize + 1 + 4) + 4
    strip += 4 * job.channels_in * bool(job.conditions)
    blend = 2 * 4 * (channels * len(job.layers) + 1)
    temporary = 3 * 8 * channels
    return job.grid.tile_height * ((STRIPS_ALIVE + job.at_a_time - 1) * strip + blend + temporary)


def writing_bytes(job: Job) -> int:
    """Memory for GDAL's cache and for the rows that are written at a time."""
    info = job.scene.info
    return cache_bytes(info) + 4 * WRITE_ROWS * info.width * info.count * info.dtype.itemsize


def memory(job: Job, cost: Cost) -> int:
    """Estimated peak of the whole process in bytes."""
    widest = max(job.grid.strip(0, job.grid.touching(*panel)).width for panel in job.panels)
    return resident() + writing_bytes(job) + job.at_a_time * job.batch_size * cost.memory + widest * column_bytes(job)


def fit(job: Job, cost: Cost, limit: int) -> Job:
    """The job with two batches at a time if it has them, then the largest batch, then the widest panels, that stay
    below `limit` bytes.

    Raises UncloudedError if one tile at a time in the narrowest panels is still too much.
    """
    least = min(job.grid.width, LEAST_TILES * job.grid.tile_width)
    for at_a_time, batch in product(range(job.at_a_time, 0, -1), range(job.batch_size, 0, -1)):
        job = replace(job, at_a_time=at_a_time)
        left = limit - resident() - writing_bytes(job) - at_a_time * batch * cost.memory
        if left >= least * column_bytes(job):
            return replace(job, batch_size=batch, panel_width=min(job.panel_width, left // column_bytes(job)))
    needed = resident() + writing_bytes(job) + cost.memory + least * column_bytes(job)
    raise UncloudedError(
        f"A memory of {limit / 1e6:.0f} MB is too little: this model and scene need about {needed / 1e6:.0f} MB. "
        f"Give --max-memory more, or use a smaller --tile."
    )

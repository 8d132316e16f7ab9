"""A scene through a model, one row of tiles at a time: a thread reads ahead, one or two restore, the caller's blends.

Only a few rows of tiles are in memory, whatever the scene's height.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from math import ceil
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unclouded.diffusion.schedule import Schedule
from unclouded.errors import UncloudedError, out_of_memory
from unclouded.sampling import Sampling
from unclouded.scene_options import PANEL_WIDTH
from unclouded.scenes.ahead import ahead
from unclouded.scenes.bands import BandSet, DnRange
from unclouded.scenes.blend import Blender, feather
from unclouded.scenes.compose import Cloudy, Rows
from unclouded.scenes.conditions import Condition, shown
from unclouded.scenes.probe import data_mask
from unclouded.scenes.raster import Array, Mask, Scene, sample_valid
from unclouded.scenes.tiles import BLOCK, TileGrid, Window
from unclouded.shared_tiles import SharedTiles

Float32 = NDArray[np.float32]

CONTEXT = 96  # pixels around what is to be replaced that the model sees, as far as the tile has them


class RestorerLike(Protocol):
    """What a scene needs of a model; `unclouded.restore.Restorer` is one."""

    @property
    def bands(self) -> BandSet: ...

    def restore(
        self,
        y: Tensor,
        origins: Sequence[tuple[int, int]],
        sampling: Sampling | None = None,
        *,
        weights_step: int | None = None,
    ) -> Any:
        """y [B, C, H, W] in [0, 1] at `origins` (scene row, column) -> an object with clear, w, spread. A model with
        `frames` and `sar` gets the further dates' bands and the radar's after the scene's.

        If the weights of one step are wanted, `weights_step` (counted from 1) is given too.
        """


def schedule_of(restorer: RestorerLike) -> Schedule | None:
    """The diffusion's; None for a restorer that has none, such as an end-to-end network."""
    return getattr(getattr(restorer, "model", None), "schedule", None)


class MaskLike(Protocol):
    def opacity(self, window: Window) -> Float32:
        """[h, w] in [0, 1]: 1 is replaced, 0 keeps the scene's bits."""


@dataclass
class Room:
    """How many tiles memory has room for at a time, as far as a run has found out; None until it ran out."""

    tiles: int | None = None

    def shrink(self, tried: int, error: Exception) -> None:
        """Half of what was tried. Raises `error` if it is not for memory, UncloudedError if one tile was too much."""
        if not out_of_memory(error):
            raise error
        if tried == 1:
            raise UncloudedError(
                "Memory ran out on a single tile. Use a smaller --tile, or free memory, and run again."
            ) from error
        self.tiles = tried // 2


@dataclass(frozen=True, eq=False)
class Job:
    """All that is decided about a scene before its first pixel is restored."""

    scene: Scene
    restorer: RestorerLike
    sampling: Sampling | None
    bands: tuple[int, ...]  # scene band (1-based) of every model channel
    dn_range: DnRange
    fill: Float32  # [C], model range: what the model is shown where there is no data
    grid: TileGrid
    batch_size: int
    mask: MaskLike | None = None
    conditions: tuple[Condition, ...] = ()  # what the model takes besides the scene, in its order
    layers: tuple[str, ...] = ("clear",)  # of Restored, blended together
    panel_width: int = PANEL_WIDTH
    at_a_time: int = 1  # batches that are in work together, each on its share of the processor's threads
    weights_step: int | None = None  # whose W is written, counted from 1; None is the mean
    room: Room = field(default_factory=Room)

    @cached_property
    def panels(self) -> tuple[tuple[int, int], ...]:
        """The ranges of columns that are worked on one after the other."""
        return self.grid.panels(self.panel_width)

    @property
    def channels(self) -> int:
        """Of what comes out."""
        return len(self.bands)

    @property
    def channels_in(self) -> int:
        return self.channels + sum(condition.channels for condition in self.conditions)


class Pixels(NamedTuple):
    """What was read of a strip."""

    cloudy: Cloudy
    seen: Float32  # what the model sees: cloudy.y and the conditions, [channels in, h, w]


class Strip(NamedTuple):
    """The rows that one row of tiles covers."""

    tile_row: int
    window: Window
    pixels: Pixels | None  # None if the mask marks nothing here: then they need not be read


def read_strips(job: Job, first: int, cols: Sequence[int]) -> Iterator[Strip]:
    """The strips of tile rows `first`, `first` + 1, …, as wide as the tiles that begin at `cols`."""
    for index in range(first, len(job.grid.row_starts)):
        window = job.grid.strip(index, cols)
        opacity = None if job.mask is None else job.mask.opacity(window)
        untouched = opacity is not None and not opacity.any()
        yield Strip(index, window, None if untouched else _read_pixels(job, window, opacity))


def _read_pixels(job: Job, window: Window, opacity: Float32 | None) -> Pixels:
    dn = job.scene.read(window)
    valid = valid_data(job, window, dn)
    y = shown(_of_model(job, dn), valid, job.dn_range, job.fill[:, None, None])
    others = [condition.read(window, y) for condition in job.conditions]
    return Pixels(Cloudy(dn, valid, opacity, y), np.concatenate([y, *others]) if others else y)


def valid_data(job: Job, window: Window, dn: Array) -> Mask:
    """Which samples of the model's bands are data, [C, h, w]; `dn` are all bands of the window."""
    where = data_mask(job.scene, window, job.bands, dn)
    return sample_valid(_of_model(job, dn), job.scene.info, job.bands, where)


def _of_model(job: Job, dn: Array) -> Array:
    return dn[[band - 1 for band in job.bands]]


def restored_rows(
    job: Job,
    rows_done: int = 0,
    panel: tuple[int, int] | None = None,
    on_tiles: Callable[[int], None] = lambda n: None,
    shared: SharedTiles | None = None,
) -> Generator[Rows, None, None]:
    """Restore the scene's columns `panel` [left, right), all if None, from row `rows_done` on, from top to bottom.

    Rows of tiles in which the mask marks nothing are left out: nothing there is to be replaced, and nothing is read.
    `on_tiles` is told how many more tiles are done (restored, or skipped because nothing in them is to be replaced).
    Tiles that `shared` has are taken from there.
    """
    grid = job.grid
    left, right = panel or (0, grid.width)
    cols = grid.touching(left, right)
    whole = grid.strip(0, cols)
    wanted = slice(left - whole.col, right - whole.col)
    blender = Blender(job.channels * len(job.layers), whole.width, top=rows_done, left=whole.col)
    weights = feather(grid.tile_height, grid.tile_width, grid.overlap)
    strips = ahead(read_strips(job, grid.resume_at(rows_done), cols))
    batches = _restored(job, _batches(job, strips, cols, on_tiles, shared), shared)
    try:
        for strip, tiles, restored in batches:
            for tile, values in zip(tiles, restored, strict=True):
                blender.add(values, tile, weights)
            if tiles:
                on_tiles(len(tiles))
                continue
            top, bottom = blender.top, max(blender.top, grid.finished(strip.tile_row))
            if strip.pixels is None:
                blender.drop(bottom)
            elif bottom > top:
                layers = dict(zip(job.layers, np.split(blender.release(bottom), len(job.layers)), strict=True))
                cloudy = strip.pixels.cloudy.crop(slice(top - strip.window.row, bottom - strip.window.row))
                yield Rows(top, cloudy, layers).crop(top, bottom, wanted)
    finally:
        batches.close()
        strips.close()


def _batches(
    job: Job,
    strips: Iterator[Strip],
    cols: Sequence[int],
    on_tiles: Callable[[int], None],
    shared: SharedTiles | None,
) -> Iterator[tuple[Strip, list[Window]]]:
    """The tiles to restore, batch by batch, those that `shared` has by themselves; an empty one ends each strip."""
    for strip in strips:
        needed = []
        if strip.pixels is not None:
            tiles = job.grid.tiles(strip.tile_row, cols)
            needed = [tile for tile in tiles if _has_work(strip.window, strip.pixels.cloudy, job.grid.core(tile))]
        on_tiles(len(cols) - len(needed))
        if kept := [tile for tile in needed if shared is not None and tile in shared]:
            yield strip, kept
            needed = [tile for tile in needed if tile not in kept]
        while needed:
            n = job.room.tiles or job.batch_size
            yield strip, needed[:n]
            needed = needed[n:]
        yield strip, []


def _restored(
    job: Job, batches: Iterator[tuple[Strip, list[Window]]], shared: SharedTiles | None
) -> Generator[tuple[Strip, list[Window], Sequence[Float32]], None, None]:
    """The same batches with what the model made of their tiles, in order, `job.at_a_time` of them in work together."""
    waiting: deque[tuple[Strip, list[Window], Future[Sequence[Float32]]]] = deque()
    with threads_shared(job.at_a_time), ThreadPoolExecutor(job.at_a_time, "unclouded-model") as pool:
        for strip, tiles in batches:
            waiting.append((strip, tiles, pool.submit(_restore_tiles, job, strip, tiles, shared)))
            while len(busy := [future for *_, future in waiting if not future.done()]) >= job.at_a_time:
                wait(busy, return_when=FIRST_COMPLETED)
            while waiting and (waiting[0][2].done() or len(waiting) > 2 * job.at_a_time):
                strip, tiles, future = waiting.popleft()
                yield strip, tiles, future.result()
        for strip, tiles, future in waiting:
            yield strip, tiles, future.result()


@contextmanager
def threads_shared(n: int) -> Iterator[None]:
    """Each of `n` threads that begin meanwhile has an equal share of the threads that torch gives an operation."""
    before = torch.get_num_threads()
    if n > 1:
        torch.set_num_threads(max(1, before // n))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _restore_tiles(job: Job, strip: Strip, tiles: Sequence[Window], shared: SharedTiles | None) -> Sequence[Float32]:
    """Restore tiles of a strip together, or in smaller batches once memory has run out; what `shared` has is ready."""
    if shared is not None and tiles and tiles[0] in shared:
        return [shared.take(tile) for tile in tiles]
    done: list[Float32] = []
    while strip.pixels is not None and len(done) < len(tiles):
        batch = tiles[len(done) :][: job.room.tiles]
        parts = _of_one_shape([_part(job, strip.window, strip.pixels.cloudy, tile) for tile in batch])
        y = np.stack([_seen(strip.window, strip.pixels, part) for part in parts])
        try:
            done += [_in_tile(*found) for found in zip(restore_batch(job, y, parts), parts, batch, strict=False)]
        except (MemoryError, RuntimeError) as error:
            job.room.shrink(len(parts), error)
    if shared is not None:
        for tile, values in zip(tiles, done, strict=True):
            shared.put(tile, values)
    return done


def _part(job: Job, strip: Window, cloudy: Cloudy, tile: Window) -> Window:
    """What the model sees of a tile: all that is to be replaced in it, and about CONTEXT pixels around; of a compiled
    model, which would be compiled anew for each size, the whole tile."""
    if cloudy.opacity is None or getattr(job.restorer, "compiled", False):
        return tile
    marked = cloudy.opacity[:, _cols(tile, strip.col)] > 0
    top, bottom = _widened(np.flatnonzero(marked.any(axis=1)), tile.height)
    left, right = _widened(np.flatnonzero(marked.any(axis=0)), tile.width)
    return Window(tile.row + top, tile.col + left, bottom - top, right - left)


def _widened(places: NDArray[np.intp], size: int) -> tuple[int, int]:
    """From CONTEXT before the first place to CONTEXT after the last, or less than a BLOCK fewer, so that both are where
    blocks begin; along an axis of `size`."""
    first, last = int(places[0]) - CONTEXT, int(places[-1]) + 1 + CONTEXT
    return max(0, BLOCK * ceil(first / BLOCK)), min(size, last - last % BLOCK)


def _of_one_shape(windows: Sequence[Window]) -> list[Window]:
    """The first of them, and those right after it that stack with it."""
    first = windows[0]
    return list(takewhile(lambda w: (w.height, w.width) == (first.height, first.width), windows))


def _seen(strip: Window, pixels: Pixels, part: Window) -> Float32:
    return pixels.seen[:, part.row - strip.row : part.bottom - strip.row, _cols(part, strip.col)]


def _in_tile(values: Float32, part: Window, tile: Window) -> Float32:
    """`values` [C, h, w] of a part of a tile as those of the tile, 0 where nothing is to be replaced."""
    if part == tile:
        return values
    whole = np.zeros((len(values), tile.height, tile.width), np.float32)
    whole[:, part.row - tile.row : part.bottom - tile.row, _cols(part, tile.col)] = values
    return whole


def _cols(tile: Window, left: int) -> slice:
    """The tile's columns in a strip that begins at scene column `left`."""
    return slice(tile.col - left, tile.right - left)


def _has_work(strip: Window, cloudy: Cloudy, window: Window) -> bool:
    """Whether any pixel of this window of the scene, inside the strip, is data and is to be replaced."""
    cloudy = cloudy.crop(slice(window.row - strip.row, window.bottom - strip.row), _cols(window, strip.col))
    valid = cloudy.valid.any(axis=0)
    return bool(valid.any() if cloudy.opacity is None else (valid & (cloudy.opacity > 0)).any())


def restore_batch(job: Job, y: Float32, tiles: Sequence[Window]) -> Float32:
    """The wanted layers of the model's answer to y [B, channels in, h, w], joined: [B, C × layers, h, w]."""
    origins = [(tile.row, tile.col) for tile in tiles]
    chosen = {} if job.weights_step is None else {"weights_step": job.weights_step}
    restored = job.restorer.restore(torch.from_numpy(y), origins=origins, sampling=job.sampling, **chosen)
    parts = []
    for layer in job.layers:
        values = getattr(restored, layer)
        if values is None:
            raise UncloudedError(_LACKING[layer])
        parts.append(values.detach().float().cpu().numpy())
    values = np.concatenate(parts, axis=1)
    if not np.isfinite(values).all():
        raise UncloudedError(
            "The model answered with numbers that are not finite. Try --precision fp32, and check the model file."
        )
    return values


_LACKING = {
    "w": "This model has no weight allocation, so there are no weights to write. Leave --weights-out out.",
    "spread": "The model gave no spread over samples. Ask for --samples 2 or more, or leave --uncertainty-out out.",
}

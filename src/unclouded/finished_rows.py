"""From restored rows to those of the products: stored as they are finished, or, where the mask marks nothing, read from
the scene when a product is written."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes import compose as made
from unclouded.scenes.compose import Rows, classes, compose, in_scene_units, only_where_made
from unclouded.scenes.partial import Partial
from unclouded.scenes.products import MASK, SCENE, UNCERTAINTY, WEIGHTS
from unclouded.scenes.raster import Array
from unclouded.scenes.tiles import Window
from unclouded.strips import Job, valid_data

CLASS_NAMES = {made.INPUT: "input", made.BLENDED: "blended", made.SYNTHESISED: "synthesised", made.NODATA: "nodata"}


def store(rows: Rows, job: Job, partial: Partial, layers: set[str]) -> None:
    """Compose the rows of every layer and keep them in `partial`."""
    made_of = classes(rows.cloudy)
    finished: dict[str, NDArray[Any]] = {
        SCENE: compose(rows.cloudy, rows.layers["clear"], job.bands, job.dn_range, job.scene.info.nodata)
    }
    if UNCERTAINTY in layers:
        finished[UNCERTAINTY] = in_scene_units(rows.layers["spread"], rows.cloudy, job.dn_range)
    if WEIGHTS in layers:
        finished[WEIGHTS] = only_where_made(rows.layers["w"], rows.cloudy)
    if MASK in layers:
        finished[MASK] = made_of
    partial.append(rows.top, finished, _counts(made_of))


def _counts(made_of: NDArray[np.uint8]) -> dict[str, int]:
    counts = np.bincount(made_of.ravel())
    return {CLASS_NAMES[int(v)]: int(counts[v]) for v in counts.nonzero()[0]}


def as_it_is(job: Job, layer: str, window: Window) -> Array:
    """What a layer holds in a window that the mask leaves alone."""
    dn = job.scene.read(window)
    if layer == SCENE:
        return dn
    valid = valid_data(job, window, dn)
    if layer == MASK:
        return np.where(valid.any(axis=0, keepdims=True), made.INPUT, made.NODATA).astype(np.uint8)
    nothing = np.float32(0 if layer == UNCERTAINTY else np.nan)
    return np.where(valid, nothing, np.float32(np.nan))


class Finished:
    """The rows of a finished run, and what became of their pixels: complete when the scene has been read once."""

    def __init__(self, job: Job, partial: Partial) -> None:
        self._job, self._partial = job, partial
        self.counts = Counter(partial.counts)

    @property
    def unchanged(self) -> bool:
        """Whether all pixels are the scene's own."""
        return not any(self.counts[CLASS_NAMES[made_of]] for made_of in (made.BLENDED, made.SYNTHESISED))

    def read(self, layer: str, window: Window) -> Array:
        """[bands, h, W] of a window of whole rows."""
        values = self._partial.read(layer, window.row, window.height)
        if layer == SCENE:
            for kept in self._partial.kept(window.row, window.height):
                dn = values[:, kept.row - window.row : kept.bottom - window.row, kept.cols]
                valid = int(np.count_nonzero(valid_data(self._job, kept, dn).any(axis=0)))
                self.counts.update({"input": valid, "nodata": kept.height * kept.width - valid})
        return values

"""`--mask auto`: an estimate of where the clouds were, from what the model changed.

For scenes that s2cloudless does not know; see `cloud_detector.py`.

A pixel is marked where the change of its most changed band, averaged over 5 × 5 pixels, exceeds 6 % of the model's
range: a good model changes clear ground by about 2–3 % (30 dB), and the average keeps single noisy pixels out. Marked
pixels are dilated by 4 and feathered by 8 pixels, since veils and shadows fade out below the threshold. It is an
estimate: where a cloud mask of the product exists, `--mask FILE` is better.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes.compose import Cloudy, Rows
from unclouded.scenes.masks import opacity_around

Float32 = NDArray[np.float32]

THRESHOLD = 0.06
RADIUS = 2  # of the average: 5 × 5 pixels
DILATE = 4
FEATHER = 8
HALO = RADIUS + DILATE + FEATHER  # rows on each side on which a row's opacity depends


def change(rows: Rows) -> Float32:
    """The change of the most changed band, [h, W] in [0, 1]; 0 where there is no data."""
    difference = np.where(rows.cloudy.valid, np.abs(rows.layers["clear"] - rows.cloudy.y), np.float32(0))
    largest: Float32 = difference.max(axis=0)
    return largest


def opacity_from_change(changed: Float32) -> Float32:
    """The opacity [h, W] of every pixel; rows within HALO of a cut edge are not to be used."""
    return opacity_around(average(average(changed, 0), 1) > THRESHOLD, DILATE, FEATHER)


def average(values: Float32, axis: int, radius: int = RADIUS) -> Float32:
    """Mean over 2 `radius` + 1 pixels along `axis`, edges repeated.

    The same additions in the same order wherever the array was cut, so that the result does not depend on the cut.
    """
    pad = [(0, 0), (0, 0)]
    pad[axis] = (radius, radius)
    padded = np.pad(values, pad, mode="edge")
    n = values.shape[axis]
    total = np.zeros_like(values)
    for shift in range(2 * radius + 1):
        total += np.take(padded, range(shift, shift + n), axis=axis)
    return total / np.float32(2 * radius + 1)


def auto_masked(rows: Iterator[Rows], height: int, first: int) -> Iterator[Rows]:
    """The same rows from `first` on with the estimated opacity; `rows` begin HALO above `first`, or at the top."""
    held: Rows | None = None
    for fresh in rows:
        held = fresh if held is None else _joined(held, fresh)
        bottom = held.top + held.cloudy.dn.shape[1]
        ready = height if bottom == height else bottom - HALO
        if ready <= first:
            continue
        opacity = opacity_from_change(change(held))[first - held.top : ready - held.top]
        finished = held.crop(first, ready)
        yield finished._replace(cloudy=finished.cloudy._replace(opacity=opacity))
        first = ready
        held = held.crop(max(held.top, ready - HALO), bottom)


def _joined(above: Rows, below: Rows) -> Rows:
    cloudy = Cloudy(
        dn=np.concatenate([above.cloudy.dn, below.cloudy.dn], axis=1),
        valid=np.concatenate([above.cloudy.valid, below.cloudy.valid], axis=1),
        opacity=None,
        y=np.concatenate([above.cloudy.y, below.cloudy.y], axis=1),
    )
    layers = {name: np.concatenate([values, below.layers[name]], axis=1) for name, values in above.layers.items()}
    return Rows(above.top, cloudy, layers)

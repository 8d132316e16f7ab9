"""The geometry of used land, in metres and without colour: districts, parcels of fields, blocks and houses.

Everything is a function of position and a salt, computed per pixel, so any window of any size can be asked for.
Distances are signed where an object has an inside (negative there).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes.fractal import Array

Ints = NDArray[np.int32]


def hashed(salt: int, *keys: Ints) -> Array:
    """A uniform number in [0, 1) for each combination of integer keys; another salt gives independent numbers."""
    h = np.full(keys[0].shape, np.uint32(salt * 0x9E3779B1 & 0xFFFFFFFF), np.uint32)
    for key in keys:
        h = (h ^ key.astype(np.uint32)) * np.uint32(0x85EBCA77)
        h ^= h >> np.uint32(15)
        h *= np.uint32(0x2C1B3C6D)
        h ^= h >> np.uint32(12)
    h *= np.uint32(0x297A2D39)
    h ^= h >> np.uint32(15)
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


class Districts(NamedTuple):
    """Voronoi cells of a jittered grid. Arrays are [H, W]; metres."""

    cell: Ints  # identity of the district
    edge: Array  # distance to the nearest border
    pair: Array  # one uniform number per border (the same from both sides)
    u: Array  # position in the district's own axes, along its parcels
    v: Array  # and across
    angle: Array  # of the u axis, radians from the columns' axis


def districts(x: Array, y: Array, size: float, salt: int, grain: float) -> Districts:
    """Districts of about `size` metres at the positions x, y [H, W]; most are aligned to the direction `grain`."""
    ci, cj = np.floor(x / size).astype(np.int32), np.floor(y / size).astype(np.int32)
    best = np.full((2, *x.shape), np.inf, np.float32)  # squared distance to the nearest and second centre
    cx, cy = np.zeros_like(best), np.zeros_like(best)
    ids = np.zeros(best.shape, np.int32)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            i, j = ci + di, cj + dj
            px = (i + 0.15 + 0.7 * hashed(salt, i, j)) * np.float32(size)
            py = (j + 0.15 + 0.7 * hashed(salt + 1, i, j)) * np.float32(size)
            d = (x - px) ** 2 + (y - py) ** 2
            _insert(best, cx, cy, ids, d, px, py, (i * 7919 + j).astype(np.int32))
    gap = np.sqrt((cx[1] - cx[0]) ** 2 + (cy[1] - cy[0]) ** 2) + np.float32(1e-6)
    edge = (best[1] - best[0]) / (2 * gap)
    pair = hashed(salt + 2, np.minimum(ids[0], ids[1]), np.maximum(ids[0], ids[1]))
    turn = hashed(salt + 3, ids[0])
    angle = (grain + np.where(turn < 0.6, 0.25 * (turn - 0.3), np.pi * (turn - 0.6) / 0.4)).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = x - cx[0], y - cy[0]
    return Districts(ids[0], edge, pair, cos * dx + sin * dy, cos * dy - sin * dx, angle)


def _insert(best: Array, cx: Array, cy: Array, ids: Ints, d: Array, px: Array, py: Array, key: Ints) -> None:
    """Keep the two nearest centres, in place."""
    nearer, second = d < best[0], d < best[1]
    for kept, new in ((best, d), (cx, px), (cy, py), (ids, key)):
        kept[1] = np.where(nearer, kept[0], np.where(second, new, kept[1]))
        kept[0] = np.where(nearer, new, kept[0])


class Cells(NamedTuple):
    """Rectangles within districts: identity keys, own coordinates from the corner, and sizes in metres. [H, W]"""

    keys: tuple[Ints, Ints, Ints]
    p: Array
    q: Array
    width: Array
    depth: Array

    @property
    def edge(self) -> Array:
        """Distance to the nearest side."""
        edge = np.minimum(np.minimum(self.p, self.width - self.p), np.minimum(self.q, self.depth - self.q))
        return np.asarray(edge)


def cells(
    place: Districts, width: tuple[float, float], depth: tuple[float, float], salt: int, *, u: Array | None = None,
    v: Array | None = None,
) -> Cells:  # fmt: skip
    """Strips of drawn depth along u, cut into rectangles of drawn width; u, v override the district's position."""
    u, v = place.u if u is None else u, place.v if v is None else v
    depths = depth[0] + (depth[1] - depth[0]) * hashed(salt, place.cell)
    j = np.floor(v / depths).astype(np.int32)
    widths = width[0] + (width[1] - width[0]) * hashed(salt + 1, place.cell, j) ** 1.5
    shifted = u + widths * hashed(salt + 2, place.cell, j)
    i = np.floor(shifted / widths).astype(np.int32)
    return Cells((place.cell, i, j), shifted - i * widths, v - j * depths, widths, depths)


def box(lots: Cells, salt: int, fill: tuple[float, float]) -> tuple[Array, Array]:
    """Signed distance to one rectangle in each cell, and the position across its ridge in [-1, 1]. [H, W]

    The rectangle covers a share between fill[0] and fill[1] of each side and lies somewhere within its cell.
    """
    half_p = lots.width / 2 * (fill[0] + (fill[1] - fill[0]) * hashed(salt, *lots.keys))
    half_q = lots.depth / 2 * (fill[0] + (fill[1] - fill[0]) * hashed(salt + 1, *lots.keys))
    slack_p, slack_q = lots.width / 2 - half_p, lots.depth / 2 - half_q
    dp = lots.p - lots.width / 2 - slack_p * (hashed(salt + 2, *lots.keys) - 0.5)
    dq = lots.q - lots.depth / 2 - slack_q * (hashed(salt + 3, *lots.keys) - 0.5)
    distance = np.maximum(np.abs(dp) - half_p, np.abs(dq) - half_q)
    ridge = np.where(half_p > half_q, dq / half_q, dp / half_p)
    return distance, np.clip(ridge, -1, 1)

"""Procedural landscapes seen from above: relief, farmland, woods, water, roads and settlements in R, G, B and NIR.

Made to stand in for clear imagery where none may be shipped: demo scenes, test fixtures, extra training pairs.
Values are display-like reflectances in [0, 1]: vegetation is bright and water dark in the near infrared.
"""

import numpy as np

from unclouded.errors import UsageError
from unclouded.scenes.country import (
    ASPHALT,
    CROPS,
    DEEP,
    FOREST,
    MEADOW,
    ROCK,
    ROOFS,
    SAND,
    SCRUB,
    SHALLOW,
    TRACK,
    YARD,
    Style,
)
from unclouded.scenes.fractal import Array, fast_size, fractal
from unclouded.scenes.parcels import Districts, box, cells, districts, hashed
from unclouded.scenes.simulate import Sun

BANDS = ("red", "green", "blue", "nir")
MOST = 16384  # pixels a side: four bands of it are 4 GiB


class _Canvas:
    """The picture while it is painted: colour [4, H, W], positions in metres, and shared random fields."""

    def __init__(self, rng: np.random.Generator, rows: int, cols: int, gsd: float, sun: Sun) -> None:
        self.rng, self.rows, self.cols, self.gsd, self.sun = rng, rows, cols, gsd, sun
        self.colour = np.zeros((4, rows, cols), np.float32)
        origin = rng.uniform(0, 1e4, 2)
        x = (np.arange(cols, dtype=np.float32) * gsd + np.float32(origin[0]))[None, :]
        y = (np.arange(rows, dtype=np.float32) * gsd + np.float32(origin[1]))[:, None]
        span = max(rows, cols)
        self.across_x = (np.arange(cols, dtype=np.float32)[None, :] - cols / 2) * np.float32(1.7 / span)
        self.across_y = (np.arange(rows, dtype=np.float32)[:, None] - rows / 2) * np.float32(1.7 / span)
        self.x, self.y = np.broadcast_to(x, (rows, cols)), np.broadcast_to(y, (rows, cols))

    def field(self, outer: float, slope: float = 1.8, inner: float = 0.0, pad: bool = True) -> Array:
        """A window [H, W] of a fractal field of unit variance whose largest features are `outer` metres wide.

        A window smaller than the features sees a level, a tilt and little variation: what lies below its own size.
        """
        extra = min(max(self.rows, self.cols) // 8, int(outer / self.gsd)) if pad else 0
        size = fast_size(self.rows + extra), fast_size(self.cols + extra)
        whole = fractal(self.rng, *size, outer=outer / self.gsd, slope=slope, inner=inner / self.gsd)
        span = max(self.rows, self.cols) * self.gsd
        share = (1 + (outer / span) ** 2) ** (1 - slope)  # of the variance, at wavelengths below `span`
        level, east, south = self.rng.standard_normal(3) * np.sqrt([1 - share, share, share])
        tilt = east * self.across_x + south * self.across_y if share < 0.9 else 0.0
        return np.asarray(np.sqrt(share) * whole[: self.rows, : self.cols] + level + tilt, np.float32)

    def inside(self, distance: Array) -> Array:
        """Share of each pixel that lies within a shape, from the signed distance in metres to its outline."""
        return np.clip(0.5 - distance / self.gsd, 0, 1)

    def paint(self, share: Array, colour: tuple[float, ...] | Array) -> None:
        """Lay a colour, [4] or [4, H, W], over the picture where share [H, W] > 0."""
        for band in range(4):
            self.colour[band] += share * (colour[band] - self.colour[band])

    def slope_to_sun(self, height: Array) -> Array:
        """How much a surface of `height` metres rises away from the sun per metre: positive on sunlit slopes."""
        row, col = self.sun.towards
        down = np.gradient(height, axis=0) if self.rows > 1 else np.zeros_like(height)
        right = np.gradient(height, axis=1) if self.cols > 1 else np.zeros_like(height)
        return np.asarray(-(row * down + col * right) / self.gsd, np.float32)


def _smooth(value: Array, low: float, high: float) -> Array:
    t = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def landscape(
    rng: np.random.Generator,
    rows: int,
    cols: int,
    *,
    gsd: float = 2.0,
    style: Style | None = None,
    sun: Sun | None = None,
) -> Array:
    """A clear scene, float32 [4, rows, cols] in [0, 1], bands R, G, B, NIR; `gsd` in metres per pixel.

    Any size >= 1. The same generator state gives the same scene; style and sun are drawn where they are not given.
    Raises UsageError for an empty size, more than MOST pixels a side, or a ground sample distance that is not positive.
    """
    if rows < 1 or cols < 1 or not gsd > 0:
        raise UsageError(f"Cannot make a landscape of {rows} x {cols} pixels at {gsd} m. Give positive numbers.")
    if max(rows, cols) > MOST:
        raise UsageError(f"A landscape is at most {MOST} pixels wide and high, not {max(rows, cols)}. Give fewer.")
    style = style or Style.draw(rng)
    sun = sun or Sun(float(rng.uniform(90, 270)), float(rng.uniform(30, 65)))
    c = _Canvas(rng, rows, cols, gsd, sun)
    salt = int(rng.integers(1 << 30))
    river, lake = _water_distance(c, style)
    water = np.minimum(river, lake)
    height, hilly = _relief(c, style, water)
    place = _districts(c, style, salt)
    patch = c.field(250, 1.6)
    town = _town(c, style, place, hilly, water)
    wood = _smooth(c.field(900, 1.7) + 1.1 * hilly + 3.4 * (style.woods - 0.62), -0.06, 0.06)
    _ground(c, style, hilly, patch)
    trees = _farmland(c, style, place, patch, hilly, wood, salt)
    trees = np.maximum(trees, 0.985 * wood * (1 - 0.7 * style.dryness))
    trees = np.maximum(trees, 0.75 * np.exp(-(((water - 14) / 9) ** 2)) * (1 - 0.5 * style.dryness))
    trees = trees * (1 - town) + 0.2 * town
    built, cast = _settle(c, place, town, salt)
    c.paint(c.inside(water - 5 - 3 * patch) * (1 - town), SAND if style.dryness > 0.5 else TRACK)
    _fill_water(c, water, patch)
    roads = _roads(c, style, place, water, hilly)
    blocked = np.maximum(np.maximum(built, roads), c.inside(water - 2))
    _plant(c, trees * (1 - blocked), style)
    _light(c, height, cast, water)
    return _develop(c)


def _water_distance(c: _Canvas, style: Style) -> tuple[Array, Array]:
    """Signed distances in metres to the bank of the river and of lakes (negative in the water)."""
    far = np.full((c.rows, c.cols), 1e6, np.float32)
    river = far
    if style.river > 0:
        turn = c.rng.uniform(0, np.pi)
        across = np.cos(turn) * (c.y - c.y.mean()) - np.sin(turn) * (c.x - c.x.mean())
        bends = 260 * c.field(2600, 2.2, 60) + 60 * c.field(700, 2.5, 60)
        path = across + bends + c.rng.uniform(-0.2, 0.2) * c.gsd * min(c.rows, c.cols)
        width = style.river * (1 + 0.25 * np.tanh(c.field(600, 2.2, 30)))
        river = np.abs(path) / _steepness(c, path) - width / 2
    if style.lakes <= 0:
        return river, far
    basin = c.field(1500, 2.1, 30) - (3.1 - 1.9 * style.lakes)
    return river, np.clip(-basin / _steepness(c, basin), -400, 1e6)


def _steepness(c: _Canvas, field: Array) -> Array:
    """Length of the gradient per metre, which turns a level set into an approximate distance."""
    down = np.gradient(field, axis=0) if c.rows > 1 else np.zeros_like(field)
    right = np.gradient(field, axis=1) if c.cols > 1 else np.zeros_like(field)
    size = np.sqrt(down**2 + right**2) / c.gsd
    return np.asarray(np.maximum(size, 0.3 * float(size.mean()) + 1e-6), np.float32)


def _relief(c: _Canvas, style: Style, water: Array) -> tuple[Array, Array]:
    """Height in metres, and how hilly a place is in [0, 1]: valleys are flat, ridges are sharp."""
    region = c.field(5000, 2.0)
    hilly = _smooth(region + 2.6 * (style.relief - 0.55), -0.3, 1.5) * _smooth(water, 20, 400)
    ridges = 1 - np.abs(c.field(2200, 2.2, 40))
    height = hilly * (210 * ridges + 60 * region) * (0.4 + style.relief) + 3 * c.field(800, 1.9)
    return height.astype(np.float32), hilly


def _districts(c: _Canvas, style: Style, salt: int) -> Districts:
    """Districts between the roads, bent a little so that nothing is ruled with a ruler."""
    bend = 70 * np.sqrt(style.parcel)
    x, y = c.x + bend * c.field(1400, 2.3, 40), c.y + bend * c.field(1400, 2.3, 40)
    return districts(x, y, 620 * style.parcel**0.7, salt, float(c.rng.uniform(0, np.pi)))


def _town(c: _Canvas, style: Style, place: Districts, hilly: Array, water: Array) -> Array:
    """Where people live, in [0, 1]: along roads, on flat and dry ground."""
    if style.towns <= 0:
        return np.zeros((c.rows, c.cols), np.float32)
    pull = c.field(1500, 2.0, 60) + 0.9 * np.exp(-place.edge / 90) - 1.5 * hilly
    return _smooth(pull + 3.0 * (style.towns - 0.85), -0.05, 0.05) * c.inside(12 - water)


def _ground(c: _Canvas, style: Style, hilly: Array, patch: Array) -> None:
    """Open country: meadow to scrub by dryness, rock on the ridges."""
    dry = np.clip(style.dryness * 1.3 + 0.18 * patch + 0.15 * c.field(60, 1.3), 0, 1)
    c.paint(np.ones_like(dry), MEADOW)
    c.paint(dry, SCRUB)
    c.paint(np.clip(dry - 0.55, 0, 1) * 1.6, SAND)
    bare = _smooth(hilly + 0.25 * c.field(300, 1.5) + 0.5 * style.dryness, 0.85, 1.25)
    c.paint(bare * 0.8, ROCK)
    c.colour *= 1 + 0.05 * c.field(25, 1.2)


def _farmland(c: _Canvas, style: Style, place: Districts, patch: Array, hilly: Array, wood: Array, salt: int) -> Array:
    """Paint the fields; returns the density of trees, which stand in hedges between them."""
    lots = cells(place, (45 * style.parcel, 260 * style.parcel), (70 * style.parcel, 190 * style.parcel), salt + 10)
    tilled = (hashed(salt + 20, *lots.keys) < style.farmland) & (hilly < 0.45) & (wood < 0.5)
    share = tilled * c.inside(2.0 - lots.edge) * c.inside(6 - place.edge)
    weights = np.array([3, 2, 3, 3, 2, 2, 2, 2, 0.5]) * np.where(np.arange(9) < 3, 1.6 - 1.4 * style.dryness, 1)
    choice = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], hashed(salt + 21, *lots.keys))
    gain = 0.82 + 0.36 * hashed(salt + 22, *lots.keys) + 0.05 * patch * hashed(salt + 23, *lots.keys)
    gain += _rows(c, lots.q, hashed(salt + 24, *lots.keys))
    c.paint(share, np.asarray(CROPS, np.float32).T[:, choice] * gain)
    hedge = hashed(salt + 25, place.cell, lots.keys[2]) < 0.35
    edge = np.minimum(lots.edge, place.edge)
    return np.asarray(np.where(hedge, 0.7, 0.05) * (1 - tilled * c.inside(3.5 - edge)) + 0.002, np.float32) * (
        style.farmland > 0.1
    )


def _rows(c: _Canvas, across: Array, kind: Array) -> Array:
    """Brightness of sowing rows and tramlines along the parcels, where pixels are fine enough to show them."""
    lines = np.zeros_like(across)
    for period, strength in ((4.0, 0.05), (21.0, 0.12)):
        if period > 2.5 * c.gsd:
            lines += strength * kind * np.cos(2 * np.pi * across / period) ** (1 if period < 10 else 8)
    return lines


def _settle(c: _Canvas, place: Districts, town: Array, salt: int) -> tuple[Array, Array]:
    """Streets, yards and houses; returns the share under roofs and streets, and the shade that houses cast."""
    if not town.any():
        return np.zeros_like(town), np.zeros_like(town)
    block = cells(place, (70, 150), (46, 62), salt + 40)
    street = c.inside(block.edge - 3.2)
    big = hashed(salt + 41, *block.keys) < 0.13
    c.paint(town * np.where(big, 0.9, 0.35), YARD)
    c.paint(town * street, ASPHALT)
    roof, ridge, keys = _houses(c, place, block.edge, big, salt, (0.0, 0.0))
    shade, _, _ = _houses(c, place, block.edge, big, salt, _shade_step(c, place, 6.0))
    choice = np.floor(hashed(salt + 60, *keys) * 3.6 + big * 2.4).astype(np.int32).clip(0, 4)
    row, col = c.sun.towards
    lit = 1 + 0.16 * ridge * np.sign(np.cos(place.angle) * row - np.sin(place.angle) * col)
    lit = lit * (0.85 + 0.3 * hashed(salt + 61, *keys))
    c.paint(town * roof, np.asarray(ROOFS, np.float32).T[:, choice] * lit)
    return np.maximum(roof, street) * town, shade * (1 - roof) * town


def _shade_step(c: _Canvas, place: Districts, height: float) -> tuple[Array, Array]:
    """How far, in the district's own axes, a house of `height` metres throws its shadow."""
    row, col = c.sun.towards
    length = height / np.tan(np.deg2rad(c.sun.elevation))
    cos, sin = np.cos(place.angle), np.sin(place.angle)
    return length * (cos * col + sin * row), length * (cos * row - sin * col)


def _houses(
    c: _Canvas, place: Districts, edge: Array, big: Array, salt: int, step: tuple[Array | float, Array | float]
) -> tuple[Array, Array, tuple[Array, ...]]:
    """Share under roofs at a place moved by `step` towards the sun, the position across the ridge, identities."""
    u, v = place.u + step[0], place.v + step[1]
    small = cells(place, (13, 20), (15, 21), salt + 50, u=u, v=v)
    distance, ridge = box(small, salt + 52, (0.5, 0.8))
    missing = (hashed(salt + 56, *small.keys) < 0.2) | (edge < 5)
    distance = np.where(missing, 1e3, distance)
    hall, hall_ridge = box(cells(place, (70, 150), (46, 62), salt + 40, u=u, v=v), salt + 57, (0.5, 0.8))
    keys = tuple(np.where(big, 0, key) for key in small.keys)
    return c.inside(np.where(big, hall, distance)), np.where(big, hall_ridge * 0.3, ridge), keys


def _fill_water(c: _Canvas, water: Array, patch: Array) -> None:
    deep = np.clip(-water / 30, 0, 1)[None]
    colour = (
        np.asarray(SHALLOW, np.float32)[:, None, None] * (1 - deep) + np.asarray(DEEP, np.float32)[:, None, None] * deep
    )
    c.paint(c.inside(water), colour * (1 + 0.04 * patch + 0.03 * c.field(40, 1.2)))


def _roads(c: _Canvas, style: Style, place: Districts, water: Array, hilly: Array) -> Array:
    """Asphalt (with bridges) and tracks along the borders of districts; returns their share."""
    settled = max(style.farmland, style.towns) > 0.12
    paved = (place.pair < 0.45) & settled
    width = np.where(place.pair < 0.15, 5.5, 3.4).astype(np.float32)
    verge = paved * c.inside(place.edge - width - 2.5) * c.inside(-water)
    asphalt = paved * c.inside(place.edge - width)
    track = (~paved & (place.pair < 0.9) & settled) * c.inside(place.edge - 1.7) * c.inside(-water) * (hilly < 0.6)
    c.paint(0.6 * verge, MEADOW)
    c.paint(track.astype(np.float32) * 0.85, TRACK)
    c.paint(asphalt.astype(np.float32), ASPHALT)
    c.paint(0.6 * (place.pair < 0.15) * paved * c.inside(place.edge - 0.3), (0.8, 0.8, 0.78, 0.7))
    return np.asarray(np.maximum(asphalt, track), np.float32)


def _plant(c: _Canvas, density: Array, style: Style) -> None:
    """Trees where crowns of a fine field stick out above a density's level; each throws a shadow."""
    crowns = c.field(13, 2.2, 2.5, pad=False)
    level = 0.55 * np.log((1 - density + 1e-4) / (density + 1e-4))
    merged = np.clip((c.gsd - 4) / 8, 0, 0.85)  # coarse pixels see woods, not trees
    stand = (1 - merged) * np.clip((crowns - level) * 2.5, 0, 1) + merged * density
    row, col = c.sun.towards
    step = 5 / np.tan(np.deg2rad(c.sun.elevation)) / c.gsd
    shadow = np.roll(stand, (round(-row * step), round(-col * step)), axis=(0, 1)) * (1 - stand)
    c.colour *= 1 - 0.5 * shadow
    lit = 1 + 0.22 * np.tanh(c.slope_to_sun(crowns) * 6) + 0.10 * c.field(220, 1.6)
    leaves = (
        np.asarray(FOREST, np.float32) * (1 - 0.3 * style.dryness) + np.asarray(SCRUB, np.float32) * 0.3 * style.dryness
    )
    species = 1 + 0.18 * np.tanh(c.field(40, 1.5))
    tint = np.stack([species, (1 + species) / 2, np.ones_like(species), species])
    c.paint(stand, leaves[:, None, None] * lit * tint)


def _light(c: _Canvas, height: Array, cast: Array, water: Array) -> None:
    """Sunlight on slopes, shade of houses; shadows keep some blue skylight."""
    shine = np.clip(1 + 0.85 * np.tanh(c.slope_to_sun(height) * 1.2) * c.inside(-water), 0.25, 1.7)
    sky = np.array([0.20, 0.25, 0.34, 0.14], np.float32)
    for band in range(4):
        c.colour[band] *= shine + (1 - shine) * sky[band]
        c.colour[band] *= 1 - 0.75 * cast * (1 - sky[band])


def _develop(c: _Canvas) -> Array:
    """What a sensor adds: its point spread, a little noise, an exposure of the whole scene."""
    image = c.colour * np.float32(c.rng.uniform(0.85, 1.15))
    for axis in (1, 2):
        if image.shape[axis] > 2:
            ahead, behind = np.roll(image, 1, axis), np.roll(image, -1, axis)
            inner = [slice(None)] * 3
            inner[axis] = slice(1, -1)
            image[tuple(inner)] = (0.7 * image + 0.15 * (ahead + behind))[tuple(inner)]
    image += np.float32(0.006) * c.rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, 0, 1, out=image)

"""Laws of the landscape generator: seeds decide, any size works, plants glow and water is dark in the near infrared."""

import numpy as np
import pytest

from unclouded.errors import UsageError
from unclouded.scenes.country import Style
from unclouded.scenes.landscape import landscape
from unclouded.scenes.parcels import box, cells, districts, hashed


def make(seed: int, rows: int = 96, cols: int = 96, **options):
    return landscape(np.random.default_rng(seed), rows, cols, **options)


@pytest.mark.parametrize("size", [(101, 203), (1, 7), (7, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("gsd", [0.5, 30.0])
def test_any_size_gives_four_bands_in_range(size, gsd):
    scene = make(0, *size, gsd=gsd)
    assert scene.shape == (4, *size)
    assert scene.dtype == np.float32
    assert np.isfinite(scene).all()
    assert scene.min() >= 0
    assert scene.max() <= 1


def test_the_seed_decides():
    np.testing.assert_array_equal(make(1), make(1))
    assert not np.array_equal(make(1), make(2))


def test_water_is_dark_and_woods_are_bright_in_the_near_infrared():
    sea = make(3, gsd=10, style=Style(river=5000.0, relief=0.0))
    woods = make(
        3, gsd=10, style=Style(river=0.0, lakes=0.0, relief=0.0, woods=1.0, farmland=0.0, towns=0.0, dryness=0)
    )
    assert sea[3].mean() < 0.15 < 0.35 < woods[3].mean()
    assert sea[2].mean() > sea[3].mean()
    index = (woods[3] - woods[0]) / (woods[3] + woods[0])
    assert np.median(index) > 0.4


def test_scenes_have_detail_at_every_ground_sample_distance():
    for gsd in (0.5, 2.0, 10.0, 30.0):
        scene = make(5, 128, 128, gsd=gsd, style=Style())
        assert np.abs(np.diff(scene[1], axis=1)).mean() > 0.008  # more than the sensor's noise
        assert scene[1].std() > 0.03


@pytest.mark.parametrize(("rows", "cols", "gsd"), [(0, 5, 1.0), (5, 0, 1.0), (5, 5, 0.0), (5, 5, float("nan"))])
def test_impossible_sizes_are_named(rows, cols, gsd):
    with pytest.raises(UsageError, match="Give positive numbers"):
        make(0, rows, cols, gsd=gsd)


@pytest.mark.parametrize(("rows", "cols"), [(10**12, 5), (5, 16385)])
def test_sizes_beyond_any_memory_are_refused(rows, cols):
    with pytest.raises(UsageError, match="at most 16384 pixels"):
        landscape(np.random.default_rng(0), rows, cols)


def test_hashed_numbers_are_uniform_and_independent_of_their_salt():
    i, j = np.divmod(np.arange(40_000, dtype=np.int32) - 20_000, 200)
    one, two = hashed(1, i, j), hashed(2, i, j)
    counts, _ = np.histogram(one, bins=20, range=(0, 1))
    assert np.abs(counts / 2000 - 1).max() < 0.1
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.02


def test_districts_do_not_depend_on_the_window():
    y, x = np.mgrid[0:900:30, 0:1200:30].astype(np.float32)
    whole = districts(x, y, 300, 7, 0.3)
    part = districts(x[8:20, 10:], y[8:20, 10:], 300, 7, 0.3)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[8:20, 10:], b)
    assert len(np.unique(whole.cell)) > 6
    assert whole.edge.min() >= 0


def test_houses_lie_within_their_lots():
    y, x = np.mgrid[0:200:1.0, 0:200:1.0].astype(np.float32)
    lots = cells(districts(x, y, 500, 3, 0.0), (13, 20), (15, 21), 5)
    distance, ridge = box(lots, 9, (0.5, 0.8))
    assert (lots.edge >= -1e-3).all()
    assert (lots.edge[distance < 0] > 0).all()
    assert 0.2 < (distance < 0).mean() < 0.7
    assert np.abs(ridge).max() <= 1

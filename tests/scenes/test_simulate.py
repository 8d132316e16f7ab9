"""Laws of the cloud simulator: what is clear stays bit-exact, light follows physics, seeds decide everything."""

import numpy as np
import pytest

from unclouded.errors import UsageError
from unclouded.scenes import spectra
from unclouded.scenes.fractal import fast_size, fractal
from unclouded.scenes.simulate import KINDS, Sun, simulate_clouds

RGBN = ("red", "green", "blue", "nir")


def clear_image(rows: int = 40, cols: int = 48, bands: int = 4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((bands, rows, cols), dtype=np.float32)


def simulate(clear: np.ndarray, seed: int = 0, **options):
    options.setdefault("bands", RGBN[: len(clear)])
    return simulate_clouds(clear, np.random.default_rng(seed), **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("none", [{"opacity": 0.0}, {"coverage": 0.0}])
def test_without_opacity_or_coverage_the_input_comes_back_bit_for_bit(kind, none):
    clear = clear_image()
    sample = simulate(clear, kind=kind, **none)
    np.testing.assert_array_equal(sample.cloudy, clear)
    assert not sample.opacity.any()
    assert not sample.shadow.any()


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_without_opacity_and_shadow_are_bit_exact(kind):
    clear = clear_image(64, 64)
    for seed in range(5):
        sample = simulate(clear, seed, kind=kind, coverage=0.3, gsd=30)
        open_ground = (sample.opacity == 0) & (sample.shadow == 0)
        np.testing.assert_array_equal(sample.cloudy[:, open_ground], clear[:, open_ground])
        assert (sample.cloudy != clear).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    clear = clear_image()
    first, again, other = simulate(clear, 3, kind=kind), simulate(clear, 3, kind=kind), simulate(clear, 4, kind=kind)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.cloudy, other.cloudy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(101, 203), (1, 7), (1, 1), (64, 33)])
def test_any_size_stays_in_range_and_leaves_the_input_alone(kind, size):
    clear = clear_image(*size)
    before = clear.copy()
    for seed in range(3):
        sample = simulate(clear, seed, kind=kind)
        assert sample.cloudy.shape == clear.shape
        assert sample.opacity.shape == sample.shadow.shape == size
        for layer in sample:
            assert layer.dtype == np.float32
            assert layer.min() >= 0
            assert layer.max() <= 1
    np.testing.assert_array_equal(clear, before)


def test_haze_adds_most_in_the_blue_and_least_in_the_near_infrared():
    black = np.zeros((4, 32, 32), np.float32)
    for seed in range(10):
        red, green, blue, nir = simulate(black, seed, kind="thin", opacity=0.5).cloudy.mean(axis=(1, 2))
        assert blue >= green >= red >= nir


def test_a_shadow_is_darkest_in_the_near_infrared_and_only_darkens():
    clear = np.full((4, 48, 48), 0.5, np.float32)
    sample = simulate(clear, 5, kind="shadow", gsd=30, coverage=0.3, sun=Sun(135, 40), height=600)
    only_shadow = (sample.shadow > 0.3) & (sample.opacity == 0)
    red, green, blue, nir = sample.cloudy[:, only_shadow].mean(axis=1)
    assert nir < red < green < blue < 0.5


@pytest.mark.parametrize(
    ("azimuth", "away"), [(0, (1, 0)), (90, (0, -1)), (180, (-1, 0)), (270, (0, 1)), (135, (-1, -1))]
)
def test_the_shadow_lies_away_from_the_sun(azimuth, away):
    sun, gsd, height = Sun(azimuth, 45), 30.0, 240.0
    distance = 8 / np.hypot(*away)
    expected = tuple(round(step * distance) for step in away)
    assert sun.shadow_offset(height, gsd) == expected
    sample = simulate(clear_image(64, 64), 2, kind="shadow", gsd=gsd, coverage=0.3, sun=sun, height=height, opacity=1.0)
    moved = np.roll(sample.opacity, expected, axis=(0, 1))[10:-10, 10:-10]
    np.testing.assert_allclose(sample.shadow[10:-10, 10:-10], moved, atol=1e-6)  # 0.04 pixels of penumbra: none


def test_coverage_is_the_share_of_the_area_under_cloud():
    clear = clear_image(256, 256, bands=1)
    shares = [(simulate(clear, s, kind="thick", coverage=0.4, gsd=30).opacity > 0).mean() for s in range(12)]
    assert np.mean(shares) == pytest.approx(0.4, abs=0.06)


def test_wrong_use_is_named():
    clear = clear_image(8, 8)
    with pytest.raises(UsageError, match="'fog' is unknown"):
        simulate(clear, kind="fog")
    with pytest.raises(UsageError, match="'ultraviolet' is unknown"):
        simulate(clear, bands=("red", "green", "blue", "ultraviolet"))
    with pytest.raises(UsageError, match=r"coverage is 1\.5"):
        simulate(clear, coverage=1.5)
    with pytest.raises(UsageError, match="2 bands are named"):
        simulate(clear, bands=("red", "nir"))


def test_band_names_have_aliases():
    np.testing.assert_array_equal(spectra.wavelengths(["R", "g", "B02", "NIR", "b8a"]), [665, 560, 490, 842, 865])


def test_a_fractal_field_is_standardised_and_follows_its_power_law():
    field = fractal(np.random.default_rng(0), 256, 256, outer=256, slope=1.5)
    assert abs(field.mean()) < 1e-4
    assert field.std() == pytest.approx(1, abs=1e-4)
    power = np.abs(np.fft.fft2(field)[0, :]) ** 2 + np.abs(np.fft.fft2(field)[:, 0]) ** 2
    low, high = power[8:16].mean(), power[64:128].mean()  # three octaves apart: a factor 8^(2 * 1.5)
    assert np.log2(low / high) == pytest.approx(9, abs=1)


@pytest.mark.parametrize("n", [1, 7, 101, 256, 1281])
def test_fast_sizes_are_even_smooth_and_large_enough(n):
    size = fast_size(n)
    assert size >= max(n, 8)
    assert size % 2 == 0
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    assert size == 1

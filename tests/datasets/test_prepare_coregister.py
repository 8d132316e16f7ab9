"""Phase correlation against known shifts and scikit-image; what must be refused is refused."""

import numpy as np
import pytest
from skimage.registration import phase_cross_correlation

from unclouded.datasets.preparing.coregister import as_image, blocks, match, phase_correlation
from unclouded.errors import UncloudedError
from unclouded.scenes.landscape import landscape
from unclouded.scenes.simulate import simulate_clouds

SIZE = 160
NAMES = ("clear.tif", "cloudy.tif")


@pytest.fixture(scope="module")
def fine():
    """A landscape sampled four times finer than the images cut from it, [4, H, W]."""
    return landscape(np.random.default_rng(3), 4 * SIZE + 64, 4 * SIZE + 64, gsd=0.5)


def view(fine, rows=0, cols=0):
    """The image [4, H, W] whose pixel (r + rows/4, c + cols/4) shows what (r, c) of view(fine) does."""
    part = fine[:, 32 - rows :, 32 - cols :][:, : 4 * SIZE, : 4 * SIZE]
    return part.reshape(4, SIZE, 4, SIZE, 4).mean((2, 4))


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (5, -7), (-13, 2), (31, 30)])
def test_shift_is_found_within_a_tenth_of_a_pixel(fine, rows, cols):
    fixed, moving = view(fine).mean(0), view(fine, rows, cols).mean(0)
    found = phase_correlation(fixed.astype(float), moving.astype(float))
    assert found[:2] == pytest.approx((rows / 4, cols / 4), abs=0.1)
    oracle = phase_cross_correlation(fixed, moving, upsample_factor=100, normalization="phase")[0]
    assert found[:2] == pytest.approx(-oracle, abs=0.1)
    assert found.peak > 50


def test_whole_pixels_are_exact():
    image = np.random.default_rng(0).random((101, 203))
    assert phase_correlation(image, np.roll(image, (-4, 9), (0, 1)))[:2] == pytest.approx((-4, 9), abs=0.02)


def test_shift_is_found_under_clouds(fine):
    clouds = simulate_clouds(
        view(fine, 5, -7), np.random.default_rng(1), bands=("red", "green", "blue", "nir"), gsd=2.0, coverage=0.3
    )
    found = phase_correlation(view(fine).mean(0).astype(float), clouds.cloudy.mean(0).astype(float))
    assert found[:2] == pytest.approx((1.25, -1.75), abs=0.1)


def test_the_largest_shift_is_a_limit(fine):
    pair = view(fine).mean(0).astype(float), view(fine, 30, 0).mean(0).astype(float)
    with pytest.raises(UncloudedError, match=r"by 7\.\d pixels down .* at most 4 are allowed"):
        match(lambda window, shift: pair, SIZE, SIZE, max_shift=4, least_peak=10, names=NAMES)


def test_unrelated_scenes_are_refused(fine):
    other = landscape(np.random.default_rng(50), SIZE, SIZE, gsd=2.0).mean(0).astype(float)
    fixed = view(fine).mean(0).astype(float)
    with pytest.raises(UncloudedError, match=r"does not match clear\.tif: the correlation peak is"):
        match(lambda window, shift: (fixed, other), SIZE, SIZE, max_shift=64, least_peak=10, names=NAMES)


def test_blocks_that_contradict_each_other_are_refused():
    rng = np.random.default_rng(0)
    image = rng.random((512, 512))

    def read(window, shift):
        return image, np.roll(image, window.col // 64, 1)

    with pytest.raises(UncloudedError, match="other shifts in other parts"):
        match(read, 512, 2048, max_shift=64, least_peak=10, names=NAMES)


def test_a_shift_that_does_not_settle_is_refused():
    image = np.random.default_rng(0).random((64, 64))
    with pytest.raises(UncloudedError, match="even after it was moved"):
        match(lambda window, shift: (image, np.roll(image, 1, 0)), 64, 64, max_shift=64, least_peak=10, names=NAMES)


def test_nothing_to_match(fine):
    with pytest.raises(UncloudedError, match="at least 48 × 48"):
        blocks(47, 2000)
    with pytest.raises(UncloudedError, match=r"peak is 0\.0"):
        match(lambda window, shift: None, 64, 64, max_shift=64, least_peak=10, names=NAMES)


def test_blocks_lie_inside_and_apart():
    for height, width in ((48, 48), (101, 203), (512, 513), (1500, 5000), (1100, 700)):
        found = blocks(height, width)
        assert all(b.bottom <= height and b.right <= width and min(b.row, b.col) >= 0 for b in found)
        covered = np.zeros((height, width), int)
        for block in found:
            covered[block.rows, block.cols] += 1
        assert covered.max() == 1


def test_an_image_of_one_value_or_without_data_is_not_correlated():
    seen = np.ones((8, 8), bool)
    assert as_image(np.full((3, 8, 8), 7), seen) is None
    assert as_image(np.random.default_rng(0).random((3, 8, 8)), seen & False) is None

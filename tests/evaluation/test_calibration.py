"""A spread that is right is found right; one that is wrong by a factor is mended by that factor."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from unclouded.datasets.images import read_image
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation import calibration
from unclouded.evaluation.calibration import Calibrator, coverage, fit_scale, rank_correlation, reliability


def simulated(factor: float, n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(restored, clear, spread) [2, n, n]: Gaussian errors whose true deviation is `factor` times the spread."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.01, 0.1, (2, n, n))
    clear = rng.random((2, n, n))
    return clear + factor * spread * rng.normal(size=clear.shape), clear, spread


def calibrated(factor: float) -> calibration.Calibration:
    calibrator = Calibrator(per_image=20_000)
    for seed in range(3):
        calibrator.feed(*simulated(factor, seed=seed))
    return calibrator.result()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_factor_is_recovered_and_coverage_becomes_nominal(factor):
    result = calibrated(factor)
    assert result.scale == pytest.approx([factor, factor], rel=0.03)
    for level in calibration.LEVELS:
        assert result.coverage_scaled[f"{level:g}"] == pytest.approx([level, level], abs=0.01)
        assert result.coverage_held_out[f"{level:g}"] == pytest.approx([level, level], abs=0.01)
    if factor == 3:
        assert max(result.coverage["0.9"]) < 0.45  # too narrow by three: 1.645/3 deviations hold 41 %
    spread, error = np.array(result.reliability)
    np.testing.assert_allclose(error, spread, rtol=0.05)
    assert (np.diff(spread) > 0).all()


def test_coverage_is_measured_on_images_held_out_of_the_fit():
    calibrator = Calibrator(per_image=20_000)
    for factor in (1.0, 4.0):  # two images of different quality: each is scaled by the other's factor
        calibrator.feed(*simulated(factor))
    held_out = calibrator.result().coverage_held_out["0.6827"]
    expected = (0.99994 + 0.1974) / 2  # within ± 4 and within ± 1/4 deviations
    assert held_out == pytest.approx([expected] * 2, abs=0.01)


def test_bands_have_factors_of_their_own():
    error = np.abs(np.random.default_rng(0).normal(size=(2, 50_000))) * [[1.0], [4.0]]
    scale = fit_scale(error, np.ones_like(error), level=0.9)
    np.testing.assert_allclose(scale, [1, 4], rtol=0.02)
    np.testing.assert_allclose(coverage(error, np.ones_like(error), 0.9), [0.9, 0.319], atol=0.01)


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 20, 500).astype(float)  # with ties
    b = a + rng.normal(0, 6, 500)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert np.isnan(rank_correlation(a, np.ones(500)))


def test_reliability_bins_hold_every_pixel_once():
    spread = np.arange(1, 104, dtype=float)
    found = reliability(2 * spread, spread, bins=10)
    assert len(found.spread) == 10
    np.testing.assert_allclose(found.error, 2 * np.array(found.spread))


def test_a_spread_that_knows_nothing_has_no_rank_correlation():
    calibrator = Calibrator()
    rng = np.random.default_rng(2)
    calibrator.feed(rng.random((1, 90, 90)), rng.random((1, 90, 90)), rng.random((1, 90, 90)))
    assert abs(calibrator.result().rank_correlation) < 0.05


def test_the_diagram_is_drawn(tmp_path):
    calibration.plot(calibrated(2.0), tmp_path / "reliability.png")
    assert read_image(tmp_path / "reliability.png").shape == (3, 600, 600)


def test_what_cannot_be_calibrated_is_said():
    with pytest.raises(UsageError, match="no images"):
        Calibrator().result()
    calibrator = Calibrator()
    calibrator.feed(np.zeros((1, 9, 9)), np.ones((1, 9, 9)), np.zeros((1, 9, 9)))
    with pytest.raises(UncloudedError, match="no spread to calibrate"):
        calibrator.result()
    with pytest.raises(UsageError, match=r"between 0 and 1, not 1\.5"):
        coverage(np.ones((1, 3)), np.ones((1, 3)), 1.5)


def test_under_cloud_and_beside_it_are_told_apart() -> None:
    rng, calibrator = np.random.default_rng(0), Calibrator()
    cloudy = np.arange(90 * 90).reshape(90, 90) % 2 == 0
    for _ in range(4):
        spread = np.full((2, 90, 90), 0.05)
        error = np.where(cloudy, 0.1, 0.05) * rng.standard_normal(spread.shape)
        calibrator.feed(error, np.zeros_like(spread), spread, cloudy)
    found = calibrator.result()
    under, beside = found.coverage_apart["cloudy"], found.coverage_apart["clear"]
    assert under < 0.6 < 0.75 < beside
    assert (under + beside) / 2 == pytest.approx(0.6827, abs=0.02)


def test_the_rank_within_an_image_does_not_see_differences_between_images() -> None:
    rng, calibrator = np.random.default_rng(0), Calibrator()
    for scale in (0.01, 0.02, 0.05, 0.1):
        spread = scale * rng.uniform(0.9, 1.1, (1, 64, 64))
        calibrator.feed(scale * rng.standard_normal(spread.shape), np.zeros_like(spread), spread)
    found = calibrator.result()
    assert found.rank_correlation > 0.5
    assert abs(found.rank_correlation_within) < 0.1
    assert found.coverage_apart == {}


def test_the_rank_is_that_of_the_scaled_spread() -> None:
    rng, calibrator = np.random.default_rng(0), Calibrator()
    deviation = rng.uniform(0.01, 0.1, (2, 90, 90))
    spread = deviation * np.array([1.0, 0.001])[:, None, None]  # a band whose samples hardly differ
    calibrator.feed(deviation * rng.standard_normal(deviation.shape), np.zeros_like(spread), spread)
    found = calibrator.result()
    assert found.rank_correlation == pytest.approx(found.rank_correlation_within)  # one image
    assert found.rank_correlation > 0.35

"""Confidence intervals and the paired test behave as statistics says they must."""

import numpy as np
import pytest

from unclouded.errors import UsageError
from unclouded.evaluation.statistics import bootstrap, bootstrap_ratio, compare


def test_the_interval_has_the_width_of_the_standard_error():
    x = np.random.default_rng(1).normal(30, 4, 400)
    interval = bootstrap(x)
    assert interval.mean == pytest.approx(x.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.08)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    hits = [low <= 0 <= high for _, low, high in (bootstrap(rng.normal(size=60), resamples=400) for _ in range(400))]
    assert np.mean(hits) == pytest.approx(0.94, abs=0.03)


def test_the_same_seed_gives_the_same_interval():
    x = np.random.default_rng(3).random(30)
    assert bootstrap(x, seed=5) == bootstrap(x, seed=5) != bootstrap(x, seed=6)


def test_a_ratio_of_sums_is_not_swayed_by_small_denominators():
    rng = np.random.default_rng(6)
    below = np.where(np.arange(50) < 5, 1e-9, rng.uniform(1, 2, 50))
    interval = bootstrap_ratio(1.2 * below + 1e-3, below)
    assert interval.mean == pytest.approx(1.2, abs=0.01)
    assert interval.low < interval.mean < interval.high < 1.21
    assert np.isnan(bootstrap_ratio([1.0, 2.0], [0.0, 0.0]).mean)


def test_values_that_are_not_finite_do_not_count():
    assert bootstrap([1.0, np.nan, 3.0]).mean == 2
    assert np.isnan(bootstrap([np.nan]).mean)


def test_a_paired_difference_is_found_where_unpaired_noise_hides_it():
    rng = np.random.default_rng(4)
    image = rng.normal(30, 6, 60)
    better = compare(image + 0.3 + rng.normal(0, 0.2, 60), image)
    assert better.p_value < 1e-3
    assert better.low > 0.2
    assert better.high < 0.4
    assert compare(image, image).p_value == 1


def test_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(5)
    p = [compare(rng.normal(size=20), rng.normal(size=20), resamples=300).p_value for _ in range(300)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.05)


def test_other_images_cannot_be_paired():
    with pytest.raises(UsageError, match="3 and 2 values"):
        compare([1, 2, 3], [1, 2])

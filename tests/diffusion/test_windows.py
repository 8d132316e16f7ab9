"""Means over windows, against scipy's and the plain mean of what exists."""

import pytest
import torch
from scipy.ndimage import uniform_filter
from torch.testing import assert_close

from unclouded.diffusion.windows import window_mean


def test_inside_it_is_scipys_uniform_filter() -> None:
    x = torch.rand(2, 3, 30, 40, dtype=torch.float64)
    expected = torch.from_numpy(uniform_filter(x.numpy(), (0, 0, 7, 7)))
    assert_close(window_mean(x, 7)[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3])


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 4)])
def test_at_borders_it_is_the_mean_of_what_exists(size: tuple[int, int]) -> None:
    x = torch.rand(1, 1, *size)
    assert_close(window_mean(x, 9)[0, 0, 0, 0], x[0, 0, :5, :5].mean())
    assert window_mean(x, 9).shape == x.shape

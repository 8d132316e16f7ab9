"""Noise by position: the crop law, normality, independence."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from unclouded.diffusion.noise import noise_field

N = 512 * 512


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack((a.flatten().double(), b.flatten().double())))[0, 1].item()


@given(
    row=st.integers(0, 90),
    col=st.integers(0, 190),
    height=st.integers(1, 11),
    width=st.integers(1, 13),
    bands=st.integers(1, 5),
)
def test_a_field_is_the_crop_of_the_whole(row: int, col: int, height: int, width: int, bands: int) -> None:
    whole = noise_field(5, 101, 203, 5)
    part = noise_field(5, height, width, bands, row=row, col=col)
    assert part.shape == (bands, height, width)
    assert part.dtype == torch.float32
    torch.testing.assert_close(part, whole[:bands, row : row + height, col : col + width], rtol=1e-6, atol=1e-6)


def test_positions_may_lie_before_the_scene_and_far_away() -> None:
    around = noise_field(0, 8, 8, 2, row=-4, col=-4)
    torch.testing.assert_close(around[:, 4:, 4:], noise_field(0, 4, 4, 2), rtol=1e-6, atol=1e-6)
    far = noise_field(0, 4, 4, 1, row=10**9, col=10**9)
    assert far.isfinite().all()
    assert not torch.equal(far, noise_field(0, 4, 4, 1))


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 5, 0), (1, 1, 1), (3, 100_000, 1)])
def test_any_size(shape: tuple[int, int, int]) -> None:
    height, width, bands = shape
    assert noise_field(1, height, width, bands).shape == (bands, height, width)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63, 123456789])
def test_every_band_is_standard_normal(seed: int) -> None:
    for band in noise_field(seed, 512, 512, 3):
        values = band.flatten().double()
        assert abs(values.mean().item()) < 4.5 / N**0.5
        assert abs(values.var().item() - 1) < 4.5 * (2 / N) ** 0.5
        assert abs((values**3).mean().item()) < 4.5 * (15 / N) ** 0.5
        assert abs((values**4).mean().item() - 3) < 4.5 * (96 / N) ** 0.5
        assert stats.kstest(values.numpy(), "norm").pvalue > 1e-4


def test_tails_are_those_of_a_normal() -> None:
    values = noise_field(3, 2000, 2000, 2).abs()
    for sigma in (3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(sigma) * values.numel()
        assert abs((values > sigma).sum().item() - expected) < 5 * expected**0.5
    assert 4.8 < values.max().item() < 6.5


@pytest.mark.parametrize("lag", [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 64), (64, 0), (1, 31)])
def test_neighbours_are_independent(lag: tuple[int, int]) -> None:
    field = noise_field(11, 512 + lag[0], 512 + lag[1], 2)
    here, there = field[:, :512, :512], field[:, lag[0] :, lag[1] :]
    for a in here:
        for b in there:
            assert abs(correlation(a, b)) < 4.5 / N**0.5
            assert abs(correlation(a**2, b**2)) < 4.5 / N**0.5


def test_bands_streams_and_seeds_are_independent() -> None:
    fields = [
        noise_field(seed, 512, 512, 4, stream=stream) for seed, stream in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0))
    ]
    rows = torch.cat(fields).flatten(1).double()  # 20 fields
    for sample in (rows, rows**2):
        off_diagonal = torch.corrcoef(sample) - torch.eye(len(rows), dtype=torch.float64)
        assert off_diagonal.abs().max() < 5 / N**0.5


def test_pairs_fill_the_plane_evenly() -> None:
    # Box–Muller's pairs, and neighbours: the angle of two values must be uniform.
    field = noise_field(4, 512, 512, 2)
    for a, b in ((field[0], field[1]), (field[0, :, 1:], field[0, :, :-1]), (field[0, 1:], field[1, :-1])):
        angle = torch.atan2(a, b).flatten().double() / (2 * torch.pi) + 0.5
        assert stats.kstest(angle.numpy(), "uniform").pvalue > 1e-4


def test_values_are_fixed_for_good() -> None:
    """Scenes restored by another version or machine must start from the same noise."""
    expected = torch.tensor([[[0.6655926, 1.3611778, -1.1679608]], [[1.1535902, 0.6893241, 1.1421727]]])
    torch.testing.assert_close(noise_field(42, 1, 3, 2, row=7, col=9, stream=1), expected, rtol=1e-6, atol=1e-6)

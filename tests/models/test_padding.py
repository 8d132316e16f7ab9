"""Padding to a multiple and cropping back, on awkward sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unclouded.models.padding import crop, pad_to_multiple, with_margin, without_margin


@given(height=st.integers(1, 70), width=st.integers(1, 70), multiple=st.sampled_from([1, 2, 8, 16, 32]))
def test_grows_to_the_next_multiple_and_crops_back(height: int, width: int, multiple: int) -> None:
    x = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(x, multiple)
    for size, grown in zip((height, width), padded.shape[-2:], strict=True):
        assert grown % multiple == 0
        assert 0 <= grown - size < multiple
    assert torch.equal(crop(padded, height, width), x)


def test_reflects_at_the_bottom_and_right() -> None:
    x = torch.arange(15.0).view(1, 1, 3, 5)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 1, 4, 8)
    assert torch.equal(padded[..., 3, :5], x[..., 1, :])
    assert torch.equal(padded[..., :3, 5:], x[..., [3, 2, 1]])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_repeats_the_edge_where_there_is_too_little_to_reflect(size: int) -> None:
    padded = pad_to_multiple(torch.arange(float(size)).view(1, 1, 1, size), 8)
    assert torch.equal(padded[..., size:], torch.full((1, 1, 8, 8 - size), float(size - 1)))


def test_a_fitting_image_is_not_copied() -> None:
    x = torch.rand(1, 1, 16, 32)
    assert pad_to_multiple(x, 16).data_ptr() == x.data_ptr()


@given(height=st.integers(1, 40), width=st.integers(1, 40), margin=st.integers(0, 20))
def test_a_margin_surrounds_and_comes_off(height: int, width: int, margin: int) -> None:
    x = torch.rand(1, 2, height, width)
    wide = with_margin(x, margin)
    assert wide.shape == (1, 2, height + 2 * margin, width + 2 * margin)
    assert torch.equal(without_margin(wide, margin), x)


def test_a_margin_is_a_reflection_on_every_side() -> None:
    x = torch.arange(15.0).view(1, 1, 3, 5)
    wide = with_margin(x, 2)[0, 0]
    assert torch.equal(wide[2, :2], torch.tensor([2.0, 1.0]))
    assert torch.equal(wide[2, -2:], torch.tensor([3.0, 2.0]))
    assert torch.equal(wide[:, 2], x[0, 0, [2, 1, 0, 1, 2, 1, 0][:7], 0])

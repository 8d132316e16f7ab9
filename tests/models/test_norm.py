"""Group normalisation: in float32 whatever it is given, and the same in the way that GPUs take."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unclouded.models.norm import Norm, by_channels, groups


@pytest.mark.parametrize(
    ("channels", "expected"), [(96, 32), (32, 32), (24, 6), (48, 12), (72, 18), (4, 1), (3, 1), (7, 1)]
)
def test_norm_groups(channels: int, expected: int) -> None:
    assert groups(channels) == expected
    assert channels % groups(channels) == 0


def test_norms_survive_large_activations_in_half_precision() -> None:
    x = torch.randn(1, 8, 16, 16) * 10 + 200  # squares overflow float16
    norm = Norm(8)
    assert_close(norm.half()(x.half()).float(), norm.float()(x.half().float()), rtol=1e-2, atol=1e-2)


def test_norms_compute_in_float32_whatever_they_are_given() -> None:
    norm, x = Norm(8), (torch.randn(2, 8, 16, 16) * 3 + 1).bfloat16()
    scale, shift = torch.randn(2, 2, 8).unbind()
    for extra in ((), (scale, shift), (scale[:1], shift[:1])):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            differ = norm(x, *extra) != norm(x.float(), *extra).bfloat16()
            assert differ.float().mean() < 0.001  # the order of a sum may turn a rounding; in bf16, 0.4 differ


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("images", [0, 1, 3])  # of which weight and bias are; 0: of none, [C]
def test_by_channels_it_is_the_same_norm(layout: torch.memory_format, dtype: torch.dtype, images: int) -> None:
    x = (torch.randn(3, 12, 9, 10) * 2 + 5).to(dtype).contiguous(memory_format=layout)
    weight, bias = torch.randn(2, images or 1, 12).unbind()
    expected = F.group_norm(x.double(), 4, eps=1e-5) * weight[:, :, None, None] + bias[:, :, None, None]
    if not images:
        weight, bias = weight[0], bias[0]
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    with torch.autocast("cpu", torch.bfloat16):
        learning = by_channels(x, 4, weight, bias, 1e-5)
        with torch.inference_mode():
            given = by_channels(x, 4, weight, bias, 1e-5)
    for answer in (learning, given):
        assert answer.dtype == dtype
        assert answer.is_contiguous(memory_format=layout)
        assert_close(answer.double(), expected, rtol=tolerance, atol=tolerance)


def test_by_channels_gradients_are_those_of_torch() -> None:
    x, weight, bias = (torch.randn(shape, requires_grad=True) for shape in ((2, 6, 4, 5), 6, 6))
    upstream = torch.randn(2, 6, 4, 5)
    found = []
    for norm in (lambda: by_channels(x, 3, weight, bias, 1e-5), lambda: F.group_norm(x, 3, weight, bias, 1e-5)):
        found.append(torch.autograd.grad((norm() * upstream).sum(), (x, weight, bias)))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.1, 7.3, 300.0])
def test_by_channels_an_even_image_has_no_variance_below_zero(value: float) -> None:
    x, weight, bias = torch.full((1, 8, 33, 35), value), torch.ones(8), torch.linspace(-1, 1, 8)
    with torch.inference_mode():
        answer = by_channels(x, 2, weight, bias, 1e-5)
    assert_close(answer, bias.view(1, 8, 1, 1).expand_as(x), rtol=0, atol=value * 1e-3)

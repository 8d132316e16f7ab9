"""The ADM U-Net: the paper's sizes, its parts against closed forms, and what precision and layout may change."""

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from unclouded.errors import UsageError
from unclouded.models import unet
from unclouded.models.unet import (
    QUERIES,
    Attention,
    LastConv,
    PatchConv,
    ResBlock,
    UNet,
    UNetConfig,
    attend,
    last,
    timestep_embedding,
)

SMALL = UNetConfig(6, 3, channels=24, res_blocks=1, multipliers=(1, 2, 2), attention=(4,), heads=4)


def lively(module: nn.Module) -> nn.Module:
    """A network whose zero-initialised layers have been trained, so that every part matters."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return module.eval().requires_grad_(False)


def parameters(config: UNetConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in UNet(config).parameters())


def test_the_papers_networks_have_36_80_million_parameters() -> None:
    # Table V's number is of CNP and WA at 3 bands; the reference prior is not in it.
    assert parameters(unet.cnp(3)) == 32_142_147
    assert parameters(unet.wa(3)) == 4_658_179
    assert round((parameters(unet.cnp(3)) + parameters(unet.wa(3))) / 1e6, 2) == 36.80


def test_an_evaluation_at_the_papers_size_is_518_gflop() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        for config in (unet.cnp(3), unet.wa(3)):
            UNet(config)(torch.empty(1, config.in_channels, 256, 256), torch.zeros(1, dtype=torch.long))
    assert round(counter.get_total_flops() / 1e9) == 518


@pytest.mark.parametrize("bands", [1, 4, 13])
def test_bands_change_only_the_first_and_last_convolutions(bands: int) -> None:
    difference = parameters(unet.cnp(bands)) - parameters(unet.cnp(3))
    assert difference == (bands - 3) * (2 * 96 * 9 + 96 * 9 + 1)


@pytest.mark.parametrize(
    ("config", "multiple", "size"),
    [
        (SMALL, 4, (8, 12)),
        (UNetConfig(3, 1, channels=8, multipliers=(1,), attention=(), heads=1), 1, (5, 7)),
        (UNetConfig(9, 3, channels=8, multipliers=(1, 2), attention=(1, 2), heads=2, scale_shift=False), 2, (6, 10)),
        (UNetConfig(6, 3, channels=24, multipliers=(1, 2, 2), attention=(4,), heads=4, patch=4), 16, (32, 48)),
    ],
)
def test_any_shape_of_network_keeps_the_images_size(config: UNetConfig, multiple: int, size: tuple[int, int]) -> None:
    network = UNet(config)
    assert network.multiple == multiple
    y = network(torch.randn(2, config.in_channels, *size), torch.tensor([0, 999]))
    assert torch.equal(y, torch.zeros(2, config.out_channels, *size))  # the last convolution starts at zero


def test_each_image_is_by_itself_and_has_its_own_time() -> None:
    network, x, t = lively(UNet(SMALL)), torch.randn(3, 6, 16, 16), torch.tensor([5, 500, 999])
    together = network(x, t)
    for i in range(3):
        assert_close(together[i : i + 1], network(x[i : i + 1], t[i : i + 1]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together, network(x, t.flip(0)), atol=1e-3)


@pytest.mark.parametrize("scale_shift", [True, False])
def test_a_step_expanded_over_the_batch_is_embedded_once_with_the_same_answer(scale_shift: bool) -> None:
    network = lively(UNet(dataclasses.replace(SMALL, scale_shift=scale_shift)))
    x, t = torch.randn(3, 6, 16, 16), torch.tensor([500])
    assert_close(network(x, t.expand(3)), network(x, t.repeat(3)), rtol=1e-4, atol=1e-5)


def test_working_in_place_without_gradients_changes_neither_input_nor_answer() -> None:
    network, x, t = lively(UNet(SMALL)), torch.randn(2, 6, 16, 16), torch.tensor([5, 999])
    before, expected = x.clone(), network(x, t)
    with torch.inference_mode():
        assert_close(network(x, t), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(x, before)


def test_layout_does_not_change_the_numbers() -> None:
    network, x, t = lively(UNet(SMALL)), torch.randn(2, 6, 16, 16), torch.tensor([5, 500])
    planes = network(x, t)
    assert_close(network.to(memory_format=torch.channels_last)(x, t), planes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["cast", "autocast"])
def test_half_precision_stays_near(precision: str) -> None:
    network, x, t = lively(UNet(SMALL)), torch.randn(2, 6, 16, 16), torch.tensor([5, 999])
    full = network(x, t)
    if precision == "cast":
        half = network.bfloat16()(x.bfloat16(), t)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x, t)
    assert half.dtype == torch.float32  # the last convolution is an image, not a feature
    assert (half.float() - full).norm() / full.norm() < 0.03


def test_attention_by_blocks_of_queries_is_attention() -> None:
    q, k, v = torch.randn(3, 2, 3, 2 * QUERIES + 7, 8).bfloat16().unbind()
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with torch.inference_mode():
        error = (attend(q, k, v).double() - expected).norm() / expected.norm()
    assert error < 0.01  # bfloat16 keeps 8 bits


def test_gradients_reach_every_parameter() -> None:
    network = lively(UNet(SMALL)).requires_grad_(True)
    network(torch.randn(1, 6, 8, 8), torch.tensor([5])).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("qkv.bias"):  # a constant added to every key changes nothing
            assert parameter.grad.abs().max() > 0, name


def test_timestep_embedding_is_cos_then_sin_at_falling_frequencies() -> None:
    embedding = timestep_embedding(torch.tensor([0, 7, 999]), 6)
    for row, t in zip(embedding, (0, 7, 999), strict=True):
        angles = [t * 10000 ** (-i / 3) for i in range(3)]
        assert_close(
            row, torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles]), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("scale_shift", [True, False])
def test_res_block_by_hand(scale_shift: bool) -> None:
    block, x, time = lively(ResBlock(8, 12, 5, scale_shift)), torch.randn(2, 8, 6, 6), torch.randn(2, 5)
    assert isinstance(block, ResBlock)
    embedded = block.embed(time)[:, :, None, None]
    h = block.conv1(nn.functional.silu(block.norm1(x)))
    if scale_shift:
        h = block.norm2(h) * (1 + embedded[:, :12]) + embedded[:, 12:]
    else:
        h = block.norm2(h + embedded)
    expected = block.skip(x) + block.conv2(nn.functional.silu(h))
    assert_close(block(x, time), expected, rtol=1e-4, atol=1e-5)


def test_attention_by_hand() -> None:
    attention, x = lively(Attention(12, heads=3)), torch.randn(2, 12, 3, 5)
    tokens = attention.norm(x).flatten(2).transpose(1, 2)  # [B, HW, C]
    heads = []
    for head in attention.qkv(tokens).chunk(3, dim=-1):  # of each head q, k, v
        q, k, v = head.chunk(3, dim=-1)
        heads.append((q @ k.transpose(1, 2) / 2.0).softmax(-1) @ v)  # √d = 2
    expected = x + attention.out(torch.cat(heads, dim=-1)).transpose(1, 2).view_as(x)
    assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)
    assert_close(attention(x.contiguous(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)


def test_patches_keep_their_place() -> None:
    network = lively(UNet(UNetConfig(3, 3, channels=8, multipliers=(1,), attention=(), heads=1, patch=4)))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = (
                "circular"  # no borders: a shift by a patch shifts the output, one by a pixel does not
            )
    x, t = torch.randn(1, 3, 16, 24), torch.tensor([1])
    with torch.enable_grad():  # else the first convolution is one with borders
        y = network(x, t)
        for shift in ((4, 0), (0, 4), (8, 12)):
            assert_close(network(x.roll(shift, (-2, -1)), t), y.roll(shift, (-2, -1)), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(network(x.roll(1, -1), t), y.roll(1, -1), atol=1e-2)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_need_not_be_laid_out_to_be_convolved(patch: int) -> None:
    conv = PatchConv(5, 7, patch)
    x = torch.randn(2, 5, 12, 20)
    with torch.enable_grad():
        laid_out = conv(x)
    assert_close(laid_out, F.conv2d(F.pixel_unshuffle(x, patch), conv.weight, conv.bias, padding=1))
    with torch.no_grad():
        assert_close(conv(x), laid_out, rtol=1e-4, atol=1e-5)


def test_last_convolutions_together_are_those_of_each() -> None:
    a, b = LastConv(6, 3), LastConv(6, 2)
    x = torch.randn(2, 6, 9, 11)
    assert_close(last(x, a, b), torch.cat((a(x), b(x)), dim=1))


def test_a_config_survives_json() -> None:
    assert UNetConfig(**json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 30, "heads": 4},
        {"channels": 33, "heads": 1},
        {"channels": 0},
        {"patch": 0},
        {"multipliers": ()},
        {"multipliers": (1, 0)},
    ],
)
def test_impossible_configs_are_refused(options: Any) -> None:
    with pytest.raises(UsageError, match="Give"):
        UNetConfig(6, 3, **options)

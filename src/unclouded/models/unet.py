"""The ADM U-Net (Dhariwal & Nichol 2021, arXiv 2105.05233) of which the DE paper's two networks are configurations.

The conditional noise predictor (CNP) and the weight-allocation network (WA) of Sui et al. 2024, Table IV, are `cnp(C)`
and `wa(C)` for C bands. Submodules: `time`, `stem`, `down.{i}`, `middle.{i}`, `up.{i}`, `head`; a block may have `res`,
`attention` and `resample`.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclouded.errors import UsageError
from unclouded.models.norm import Norm, uncast

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net; the defaults are the CNP's, apart from its bands."""

    in_channels: int
    out_channels: int
    channels: int = 96  # width of the first level
    res_blocks: int = 2  # per level on the way down; one more on the way up
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 3)  # width of each level, in `channels`
    attention: tuple[int, ...] = (4, 8)  # downsampling factors, relative to the first level, that attend
    heads: int = 4
    scale_shift: bool = True  # time scales and shifts the second norm; else it is added before it
    patch: int = 1  # > 1: the first level works on patches of this many pixels (for CPUs; the paper's is 1)

    def __post_init__(self) -> None:
        for name in ("multipliers", "attention"):  # lists come from JSON cards
            object.__setattr__(self, name, tuple(getattr(self, name)))
        sizes = (self.in_channels, self.out_channels, self.channels, self.res_blocks, self.heads, self.patch)
        if min(sizes) < 1 or not self.multipliers or min(self.multipliers) < 1:
            raise UsageError(f"{self} has a size below 1. Give positive sizes and at least one multiplier.")
        attending = {self.channels * self.multipliers[level] for level in self.attending} | {self.middle_channels}
        if self.channels % 2 or any(width % self.heads for width in attending):
            raise UsageError(
                f"A U-Net of {self.channels} channels cannot have {self.heads} attention heads at widths "
                f"{sorted(attending)}. Give even channels and heads that divide every width."
            )

    @property
    def attending(self) -> tuple[int, ...]:
        """The levels with attention."""
        return tuple(level for level in range(len(self.multipliers)) if 2**level in self.attention)

    @property
    def middle_channels(self) -> int:
        return self.channels * self.multipliers[-1]


def cnp(bands: int) -> UNetConfig:
    """Table IV, CNP: input concat(x_t, y), output ε."""
    return UNetConfig(2 * bands, bands)


def wa(bands: int) -> UNetConfig:
    """Table IV, WA: input concat(x_t, y, x_E), output W (unbounded)."""
    return UNetConfig(3 * bands, bands, channels=64, multipliers=(1, 1, 2), attention=(4,), heads=1, scale_shift=False)


class PatchConv(nn.Conv2d):
    """A 3×3 convolution of patches, whose patch² pixels are channels (space to depth): [B, C, H, W] to [B, out,
    H / patch, W / patch]; `weight` is [out, C · patch², 3, 3]."""

    def __init__(self, c_in: int, c_out: int, patch: int) -> None:
        super().__init__(c_in * patch**2, c_out, 3, padding=1)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        n = self.patch
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(F.pixel_unshuffle(x, n))
        # the same of the image itself, in steps of a patch: to lay out the patches takes a CPU as long as to convolve
        weight = self.weight.view(self.out_channels, -1, n, n, 3, 3).permute(0, 1, 4, 2, 5, 3)
        weight = weight.reshape(self.out_channels, -1, 3 * n, 3 * n)
        return F.conv2d(x, weight, self.bias, stride=n, padding=n)


class LastConv(nn.Conv2d):
    """A 3×3 convolution in float32, whatever the precision around it: its output is the image itself."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return last(x, self)


def last(x: Tensor, *layers: nn.Conv2d) -> Tensor:
    """What these layers make of x, as the channels of one image: as one convolution, which reads x once."""
    weight, bias = (torch.cat([getattr(layer, name).float() for layer in layers]) for name in ("weight", "bias"))
    with uncast(x):
        image: Tensor = layers[0]._conv_forward(x.float(), weight, bias)
    return image


def zeroed(layer: Layer) -> Layer:
    """A layer that gives 0 until it is trained: each residual branch starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


# [cos, sin] of t · 10000^(−i/half), i < half (Vaswani et al. 2017)
def timestep_embedding(t: Tensor, channels: int) -> Tensor:
    """`t` [B] -> [B, channels] float32."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10000) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=1)


def silu(x: Tensor) -> Tensor:
    """In place where no gradient needs the input: `x` must be a tensor that nobody else reads."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResBlock(nn.Module):
    """norm–SiLU–conv twice with the time embedding between, plus the input (through 1×1 where the width changes)."""

    def __init__(self, c_in: int, c_out: int, embedding: int, scale_shift: bool) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = Norm(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.embed = nn.Linear(embedding, 2 * c_out if scale_shift else c_out)
        self.norm2 = Norm(c_out)
        self.conv2 = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h: Tensor = self.conv1(silu(self.norm1(x)))
        time = self.embed(time)  # [B or 1, c_out or 2 c_out]
        if self.scale_shift:
            h = self.norm2(h, *time.chunk(2, dim=1))
        else:
            h = self.norm2(h.add_(time[:, :, None, None]))
        h = self.conv2(silu(h))
        return h.add_(self.skip(x))


QUERIES = 512  # a block of their scores stays in the cache


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ/√d)·v, all [B, heads, pixels, d].

    torch's fused kernel for CPUs multiplies bfloat16 at the rate of float32; plain products of a block of queries at a
    time are 1.5 times as fast there, as long as no gradient needs the scores.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    kT = k.mT / math.sqrt(k.shape[-1])
    return torch.cat([(block @ kT).softmax(dim=-1) @ v for block in torch.split(q, QUERIES, dim=2)], dim=2)


class Attention(nn.Module):
    """Self-attention over all pixels, plus the input. qkv holds q, k, v of the first head, then of the second …"""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens: Tensor = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)  # a view in channels_last
        q, k, v = self.qkv(tokens).view(b, h * w, self.heads, 3, -1).permute(3, 0, 2, 1, 4)  # each [B, heads, HW, d]
        tokens = attend(q, k, v)
        tokens = self.out(tokens.transpose(1, 2).reshape(b, h * w, c))
        return x + tokens.view(b, h, w, c).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with uncast(x):  # autocast would copy it to float32 first
            larger = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(larger)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One step down, in the middle or up: any of `res`, `attention`, `resample`, in this order."""

    def __init__(self, res: ResBlock | None, attention: Attention | None, resample: nn.Module | None = None) -> None:
        super().__init__()
        self.res, self.attention, self.resample = res, attention, resample

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        if self.res is not None:
            x = self.res(x, time)
        if self.attention is not None:
            x = self.attention(x)
        if self.resample is not None:
            x = self.resample(x)
        return x


def body(config: UNetConfig) -> tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList]:
    """The blocks in the middle, on the way down and up. Each output on the way down, the stem's too, is a skip."""
    widths = [config.channels * m for m in config.multipliers]
    last = len(widths) - 1

    def block(c_in: int, level: int, attend: bool, resample: nn.Module | None = None) -> Block:
        res = ResBlock(c_in, widths[level], 4 * config.channels, config.scale_shift)
        return Block(res, Attention(widths[level], config.heads) if attend else None, resample)

    down, up, skips = nn.ModuleList(), nn.ModuleList(), [widths[0]]
    for level, width in enumerate(widths):
        for _ in range(config.res_blocks):
            down.append(block(skips[-1], level, level in config.attending))
            skips.append(width)
        if level < last:
            down.append(Block(None, None, Downsample(width)))
            skips.append(width)
    c = widths[last]
    middle = nn.ModuleList((block(c, last, attend=True), block(c, last, attend=False)))
    for level in reversed(range(last + 1)):
        for i in range(config.res_blocks + 1):
            resample = Upsample(widths[level]) if level > 0 and i == config.res_blocks else None
            up.append(block(c + skips.pop(), level, level in config.attending, resample))
            c = widths[level]
    return middle, down, up


class UNet(nn.Module):
    """`forward(x [B, in, H, W], t [B]) -> [B, out, H, W]`; H and W multiples of `multiple`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, embedding, pixels = config.channels * config.multipliers[0], 4 * config.channels, config.patch**2
        self.time = nn.Sequential(
            nn.Linear(config.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = nn.Sequential(nn.Identity(), PatchConv(config.in_channels, width, config.patch))  # stem.1 in files
        self.head = nn.Sequential(
            Norm(width),
            nn.SiLU(),
            zeroed(LastConv(width, config.out_channels * pixels)),
            nn.PixelShuffle(config.patch),
        )
        # Optimizer states are stored by the order of the parameters: keep this order.
        self.middle, self.down, self.up = body(config)

    @property
    def multiple(self) -> int:
        """Both sides of an input must be multiples of this."""
        return int(self.config.patch * 2 ** (len(self.config.multipliers) - 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if t.stride(0) == 0:  # one step, expanded over the batch: embedded once
            t = t[:1]
        time = self.time(timestep_embedding(t, self.config.channels).to(x.dtype))
        h = self.stem(x)
        skips = [h]
        for block in self.down:
            h = block(h, time)
            skips.append(h)
        for block in self.middle:
            h = block(h, time)
        for block in self.up:
            h = block(torch.cat((h, skips.pop()), dim=1), time)
        return self.head(h)  # type: ignore[no-any-return]

"""The light network, sized for a CPU (ours; the reasons are in docs/decisions.md): the default reference prior
(models/priors/light.py), and, told of x_t and t, a conditional noise predictor.

A residual U-Net on a space-to-depth grid: half of the resolution costs a quarter of the time and loses nothing,
because the pixels of each 2×2 block become channels. Thin cloud is a smooth, image-wide veil, thick cloud hides
everything under it: the first needs global statistics (channel attention by the global mean), the second a wide view
(more halvings and dilated blocks at the bottom).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unclouded.errors import UsageError
from unclouded.models.norm import Norm
from unclouded.models.unet import Attention, LastConv, PatchConv, last, silu, timestep_embedding, zeroed

TIME_CHANNELS = 64


class ChannelAttention(nn.Module):
    """How much each channel counts, [B, C, 1, 1], by what the image's global mean says (simplified channel attention,
    Chen et al. 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))
        return 1 + torch.tanh(mean)


class Block(nn.Module):
    """x + γ·f(x): norm, two 3×3 convolutions (the first dilated), channel attention; γ starts small."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = Norm(channels, num_groups=1)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = ChannelAttention(channels)
        self.gamma = nn.Parameter(torch.full((1, channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv2(silu(self.conv1(self.norm(x))))
        share: Tensor = self.gamma * self.attention(h)
        return (share * h).add_(x)  # in float32, as γ is: in bfloat16 the sum of the blocks loses 0.035 dB (rgbn)


class LightNet(nn.Module):
    """Features of an image: [B, c_in, H, W], both sides multiples of `multiple`, to [B, channels[0], H/2, W/2].

    `channels` are the widths at 1/2, 1/4, 1/8 and 1/16 of the resolution, `blocks` the residual blocks of each level
    (the last entry is the bottom; the others are used on the way down and again on the way up).
    """

    def __init__(self, c_in: int, channels: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.multiple = 2 ** len(channels)
        self.stem = PatchConv(c_in, channels[0], 2)
        self.down_blocks = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(n))) for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(channels))
        self.bottom = nn.Sequential(*(Block(channels[-1], dilation=1 + i % 3) for i in range(blocks[-1])))
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(channels))
        self.up_blocks = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(n))) for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )

    def features(self, x: Tensor, offsets: Sequence[Tensor] | None = None) -> Tensor:
        """`offsets`, one [B or 1, C, 1, 1] a level, are added to what comes into it."""
        levels = iter(offsets or ())

        def entering(h: Tensor) -> Tensor:
            return h if offsets is None else h + next(levels)

        h: Tensor = entering(self.stem(x))
        skips = []
        for blocks, down in zip(self.down_blocks, self.downs, strict=True):
            h = blocks(h)
            skips.append(h)
            h = entering(down(h))
        h = self.middle(h)
        for blocks, up in reversed(list(zip(self.up_blocks, self.ups, strict=True))):
            h = blocks(F.pixel_shuffle(up(h), 2) + skips.pop())
        return h

    def middle(self, h: Tensor) -> Tensor:
        """What happens at the lowest resolution."""
        return self.bottom(h)  # type: ignore[no-any-return]


def at_full_resolution(h: Tensor, head: nn.Conv2d, gain: nn.Conv2d | None) -> tuple[Tensor, Tensor | None]:
    """r and g, [B, bands, H, W], of features at half of it; g is None if there is no gain."""
    if gain is None:
        return F.pixel_shuffle(head(h), 2), None
    r, g = F.pixel_shuffle(last(h, head, gain), 2).chunk(2, dim=1)
    return r, g


@dataclass(frozen=True)
class LightConfig:
    """The shape of a light CNP; `widths` and `blocks` are those of its levels, from 1/2 of the resolution on."""

    in_channels: int
    out_channels: int
    widths: tuple[int, ...] = (24, 48, 96, 192)
    blocks: tuple[int, ...] = (1, 1, 2, 1)
    heads: int = 4  # of the attention at the bottom
    gain: bool = False  # the answer is g ⊙ y + r instead of r

    def __post_init__(self) -> None:
        for name in ("widths", "blocks"):  # lists come from JSON cards
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.widths or len(self.widths) != len(self.blocks) or min(*self.widths, *self.blocks) < 1:
            raise UsageError(
                f"A light network cannot have the widths {self.widths} and the blocks {self.blocks}. "
                "Give as many of both, each 1 or more."
            )
        if self.heads < 1 or self.widths[-1] % self.heads:
            raise UsageError(
                f"A light network {self.widths[-1]} wide at the bottom cannot have {self.heads} attention heads. "
                "Give heads that divide the width."
            )


class LightCNP(LightNet):
    """`forward(x [B, in, H, W], t [B]) -> [B, out, H, W]`; H and W multiples of `multiple`; x is x_t and y [and radar].

    The time is embedded and added to the features of each level; at the bottom all places see one another. Untrained,
    the answer is 0.
    """

    def __init__(self, config: LightConfig) -> None:
        super().__init__(config.in_channels, config.widths, config.blocks)
        self.config = config
        self.time = nn.Sequential(
            nn.Linear(TIME_CHANNELS, TIME_CHANNELS), nn.SiLU(), zeroed(nn.Linear(TIME_CHANNELS, sum(config.widths)))
        )
        self.attention = Attention(config.widths[-1], config.heads)
        self.head = zeroed(LastConv(config.widths[0], 4 * config.out_channels))
        self.gain = zeroed(LastConv(config.widths[0], 4 * config.out_channels)) if config.gain else None

    def middle(self, h: Tensor) -> Tensor:
        return self.attention(super().middle(h))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if t.stride(0) == 0:  # one step, expanded over the batch: embedded once
            t = t[:1]
        time: Tensor = self.time(timestep_embedding(t, TIME_CHANNELS).to(x.dtype))[:, :, None, None]
        h = self.features(x, torch.split(time, list(self.config.widths), dim=1))
        r, g = at_full_resolution(h, self.head, self.gain)
        bands = self.config.out_channels
        return r if g is None else r + g * x[:, bands : 2 * bands]

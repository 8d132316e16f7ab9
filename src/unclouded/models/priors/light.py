"""Light: the default reference prior, sized for a CPU (ours; the reasons are in docs/decisions.md).

A residual U-Net on a space-to-depth grid: half of the resolution costs a quarter of the time and loses nothing,
because the pixels of each 2×2 block become channels. Thin cloud is a smooth, image-wide veil, thick cloud hides
everything under it: the first needs global statistics (channel attention by the global mean), the second a wide view
(two more halvings and dilated blocks at the bottom). The network predicts what to add to the cloudy image, and, with
`gain`, by what to multiply it: a veil y = a·x + b is undone by x = y / a − b / a, both smooth where the ground is not.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unclouded.models.padding import crop, pad_to_multiple
from unclouded.models.unet import LastConv, zeroed


class ChannelAttention(nn.Module):
    """Scales each channel by what the image's global mean says (simplified channel attention, Chen et al. 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.project(x.mean(dim=(2, 3), keepdim=True))
        return x * (1 + torch.tanh(mean))


class Block(nn.Module):
    """x + γ·f(x): norm, two 3×3 convolutions (the first dilated), channel attention; γ starts small."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.attention = ChannelAttention(channels)
        self.gamma = nn.Parameter(torch.full((1, channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.conv1(self.norm(x)))
        out: Tensor = x + self.gamma * self.attention(self.conv2(h))
        return out


class Light(nn.Module):
    """y [B, bands, H, W] in [0, 1] -> clear estimate of the same shape and range; any H, W ≥ 1.

    `channels` are the widths at 1/2, 1/4, 1/8 and 1/16 of the resolution, `blocks` the residual blocks of each level
    (the last entry is the bottom; the others are used on the way down and again on the way up). With `gain` the answer
    is (1 + g) ⊙ (y − 1/2) + 1/2 + r, else y + r; g and r begin at 0.
    """

    def __init__(
        self,
        bands: int = 3,
        channels: Sequence[int] = (24, 48, 96, 192),
        blocks: Sequence[int] = (1, 1, 2, 4),
        gain: bool = False,
    ) -> None:
        super().__init__()
        self.multiple = 2 ** len(channels)
        self.stem = nn.Conv2d(4 * bands, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(n))) for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(channels))
        self.bottom = nn.Sequential(*(Block(channels[-1], dilation=1 + i % 3) for i in range(blocks[-1])))
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(channels))
        self.up_blocks = nn.ModuleList(
            nn.Sequential(*(Block(c) for _ in range(n))) for c, n in zip(channels[:-1], blocks[:-1], strict=True)
        )
        self.head = zeroed(LastConv(channels[0], 4 * bands))
        self.gain = zeroed(LastConv(channels[0], 4 * bands)) if gain else None

    def forward(self, y: Tensor) -> Tensor:
        padded = pad_to_multiple(y, self.multiple)
        h = self._body(F.pixel_unshuffle(2 * padded - 1, 2))
        restored = padded + F.pixel_shuffle(self.head(h), 2)
        if self.gain is not None:
            restored = restored + F.pixel_shuffle(self.gain(h), 2) * (padded - 0.5)
        restored = crop(restored, y.shape[-2], y.shape[-1])
        # Training needs gradients beyond the range too; only what leaves the network for use is clamped.
        return restored if self.training else restored.clamp(0, 1)

    def _body(self, x: Tensor) -> Tensor:
        h: Tensor = self.stem(x)
        skips = []
        for blocks, down in zip(self.down_blocks, self.downs, strict=True):
            h = blocks(h)
            skips.append(h)
            h = down(h)
        h = self.bottom(h)
        for blocks, up in reversed(list(zip(self.up_blocks, self.ups, strict=True))):
            h = blocks(F.pixel_shuffle(up(h), 2) + skips.pop())
        return h

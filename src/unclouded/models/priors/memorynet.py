"""MemoryNet, a reference prior: the MPRNet of three stages, trained with a memory-augmented contrastive loss.

Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021 (network);
Zhang et al., "Memory augment is All You Need for image restoration", arXiv 2309.01377 (training).

Stage 1 sees four patches, stage 2 two halves, stage 3 the whole image at full resolution; each stage hands its
features on. The published network has no convolution bias and a single PReLU slope that all blocks share (stored once
here).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclouded.models.padding import crop, pad_to_multiple

MULTIPLE = 8  # two halvings of half an image


def conv(in_channels: int, out_channels: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)


class ChannelAttentionBlock(nn.Module):
    """CAB: two 3×3 convolutions whose result is weighted per channel by its own mean, then added to the input."""

    def __init__(self, channels: int, reduction: int, act: nn.PReLU) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 3)
        self.conv2 = conv(channels, channels, 3)
        self.squeeze = conv(channels, channels // reduction, 1)
        self.excite = conv(channels // reduction, channels, 1)
        self._act = (act,)  # in a tuple, so that the shared slope is registered (and saved) once, by MemoryNet

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv2(self._act[0](self.conv1(x)))
        mean = features.mean((2, 3), keepdim=True)
        weight = torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))
        return x + features * weight  # type: ignore[no-any-return]


class Resize(nn.Module):
    """Bilinear resizing by `factor` (½ or 2), then a 1×1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv = conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False)
        return self.conv(x)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Three levels of two CABs; from stage 2 on, the previous stage's features are added after each level."""

    def __init__(self, widths: Sequence[int], reduction: int, act: nn.PReLU, cross_stage: bool) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(*(ChannelAttentionBlock(c, reduction, act) for _ in range(2))) for c in widths
        )
        self.down = nn.ModuleList(Resize(c, d, 0.5) for c, d in pairwise(widths))
        cross = widths if cross_stage else ()
        self.from_encoder = nn.ModuleList(conv(c, c, 1) for c in cross)
        self.from_decoder = nn.ModuleList(conv(c, c, 1) for c in cross)

    def forward(self, x: Tensor, previous: tuple[list[Tensor], list[Tensor]] | None = None) -> list[Tensor]:
        features = []
        for i, level in enumerate(self.levels):
            x = level(x)
            if previous is not None:
                encoded, decoded = previous
                x = x + self.from_encoder[i](encoded[i]) + self.from_decoder[i](decoded[i])
            features.append(x)
            if i < len(self.down):
                x = self.down[i](x)
        return features


class Decoder(nn.Module):
    """Back up from the lowest level; each skip passes one CAB and is added."""

    def __init__(self, widths: Sequence[int], reduction: int, act: nn.PReLU) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(*(ChannelAttentionBlock(c, reduction, act) for _ in range(2))) for c in widths
        )
        self.skips = nn.ModuleList(ChannelAttentionBlock(c, reduction, act) for c in widths[:-1])
        self.up = nn.ModuleList(Resize(d, c, 2.0) for c, d in pairwise(widths))

    def forward(self, encoded: list[Tensor]) -> list[Tensor]:
        decoded = [self.levels[-1](encoded[-1])]
        for i in reversed(range(len(self.skips))):
            x = self.up[i](decoded[0]) + self.skips[i](encoded[i])
            decoded.insert(0, self.levels[i](x))
        return decoded


class SupervisedAttention(nn.Module):
    """SAM: makes the stage's image (input + correction) and lets it gate the features that go on to the next stage."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.features = conv(channels, channels, 1)
        self.to_image = conv(channels, bands, 1)
        self.gate = conv(bands, channels, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        image = self.to_image(x) + y
        return self.features(x) * torch.sigmoid(self.gate(image)) + x, image


class OriginalResolutionBlock(nn.Module):
    """ORB: a run of CABs and a convolution, added to the input."""

    def __init__(self, channels: int, reduction: int, act: nn.PReLU, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ChannelAttentionBlock(channels, reduction, act) for _ in range(blocks)))
        self.conv = conv(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.blocks(x))  # type: ignore[no-any-return]


class OriginalResolutionNet(nn.Module):
    """ORSNet, the third stage: three ORBs at full resolution; after each, one level of stage 2 is added, brought up
    to size."""

    def __init__(self, widths: Sequence[int], wide: int, reduction: int, act: nn.PReLU, blocks: int) -> None:
        super().__init__()
        self.orbs = nn.ModuleList(OriginalResolutionBlock(wide, reduction, act, blocks) for _ in widths)
        self.from_encoder = nn.ModuleList(self._lift(widths, i, wide) for i in range(len(widths)))
        self.from_decoder = nn.ModuleList(self._lift(widths, i, wide) for i in range(len(widths)))

    @staticmethod
    def _lift(widths: Sequence[int], level: int, wide: int) -> nn.Sequential:
        """From one level to full resolution and the third stage's width."""
        up = [Resize(widths[i], widths[i - 1], 2.0) for i in range(level, 0, -1)]
        return nn.Sequential(*up, conv(widths[0], wide, 1))

    def forward(self, x: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> Tensor:
        for i, orb in enumerate(self.orbs):
            x = orb(x)
            x = x + self.from_encoder[i](encoded[i]) + self.from_decoder[i](decoded[i])
        return x


class MemoryNet(nn.Module):
    """Reference prior: cloudy `y` [B, bands, H, W] in [0, 1] to clear [B, bands, H, W] in [0, 1], any H×W.

    The defaults are the DE paper's (3.64 M parameters with three bands). Sizes that are no multiple of 8 are padded
    and cropped.
    """

    def __init__(
        self,
        bands: int = 3,
        features: int = 40,
        unet_step: int = 20,
        ors_step: int = 16,
        blocks: int = 8,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        widths = [features, features + unet_step, features + 2 * unet_step]
        wide = features + ors_step
        act = self.act = nn.PReLU()
        self.shallow = nn.ModuleList(
            nn.Sequential(conv(bands, features, 3), ChannelAttentionBlock(features, reduction, act)) for _ in range(3)
        )
        self.encoder1 = Encoder(widths, reduction, act, cross_stage=False)
        self.decoder1 = Decoder(widths, reduction, act)
        self.attention1 = SupervisedAttention(features, bands)
        self.merge2 = conv(2 * features, features, 3)
        self.encoder2 = Encoder(widths, reduction, act, cross_stage=True)
        self.decoder2 = Decoder(widths, reduction, act)
        self.attention2 = SupervisedAttention(features, bands)
        self.merge3 = conv(2 * features, wide, 3)
        self.full = OriginalResolutionNet(widths, wide, reduction, act, blocks)
        self.tail = conv(wide, bands, 3)

    def forward(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        clear = self.stages(pad_to_multiple(y, MULTIPLE))[-1]
        return crop(clear, height, width).clamp(0, 1)

    def stages(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three stages' images, unclamped, each [B, bands, H, W] (the losses supervise all); H and W multiples of
        8."""
        halves = [self._half(half) for half in y.chunk(2, 2)]
        image1 = torch.cat([half[0] for half in halves], 2)
        encoded = [torch.cat(pair, 2) for pair in zip(*(half[1] for half in halves), strict=True)]
        decoded = self.decoder2(encoded)
        attended, image2 = self.attention2(decoded[0], y)
        x = self.merge3(torch.cat([self.shallow[2](y), attended], 1))
        return image1, image2, self.tail(self.full(x, encoded, decoded)) + y

    def training_losses(self, y: Tensor, x0: Tensor) -> dict[str, Tensor]:
        """Charbonnier and 0.05 edge loss of all three stages (MPRNet, eq. 2–4), and 0.1 contrast of the three images.

        The contrast draws each image (the actual sample) to the clear one (positive), away from the cloudy one
        (negative); distances are taken at three granularities. The paper's features are ours: means over 1, 4 and 16
        pixels.
        """
        y, x0 = pad_to_multiple(y, MULTIPLE), pad_to_multiple(x0, MULTIPLE)
        images = self.stages(y)
        return {
            "charbonnier": torch.stack([(x - x0).square().add(1e-6).sqrt().mean() for x in images]).sum(),
            "edge": 0.05 * torch.stack([(edges(x) - edges(x0)).square().add(1e-6).sqrt().mean() for x in images]).sum(),
            "contrast": 0.1 * torch.stack([contrast(x, x0, y) for x in images]).sum(),
        }

    def _half(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Stage 1 on the left and right patch of a half, then the encoder of stage 2 on that half: (image 1,
        features)."""
        patches = [self.encoder1(self.shallow[0](patch)) for patch in y.chunk(2, 3)]
        encoded = [torch.cat(pair, 3) for pair in zip(*patches, strict=True)]
        decoded = self.decoder1(encoded)
        attended, image = self.attention1(decoded[0], y)
        x = self.merge2(torch.cat([self.shallow[1](y), attended], 1))
        return image, self.encoder2(x, (encoded, decoded))


def edges(x: Tensor) -> Tensor:
    """Laplacian of each band: the four neighbours' mean, less the pixel."""
    around = F.pad(x, (1, 1, 1, 1), mode="replicate")
    neighbours = around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]
    return neighbours / 4 - x


def contrast(actual: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Σ over granularities of |actual − positive| / (|actual − negative| + ε): lower is nearer to the positive
    sample."""
    ratios = []
    for size in (1, 2, 4):
        a, p, n = (F.avg_pool2d(x, size) for x in (actual, positive, negative))
        ratios.append((a - p).abs().mean() / ((a - n).abs().mean() + 0.01))
    return torch.stack(ratios).sum()

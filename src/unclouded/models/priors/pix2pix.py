"""pix2pix, the usual baseline: a U-Net that halves the image down to one pixel, trained with L1 and a PatchGAN.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, appendix 6.1. Dropout
works in training only: a prior has one answer per image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclouded.models.padding import crop, pad_to_multiple


class Down(nn.Module):
    """LeakyReLU, 4×4 convolution of stride 2, batch norm (`act` and `norm` leave the outer ones out)."""

    def __init__(self, in_channels: int, out_channels: int, act: bool, norm: bool) -> None:
        super().__init__()
        self.act = act
        self.conv = nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(F.leaky_relu(x, 0.2) if self.act else x))  # type: ignore[no-any-return]


class Up(nn.Module):
    """ReLU, 4×4 transposed convolution of stride 2, batch norm (not the outermost), dropout (where the decoder is
    widest: in three of the paper's eight levels, in none of few)."""

    def __init__(self, in_channels: int, out_channels: int, last: bool, dropout: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=last)
        self.norm = nn.Identity() if last else nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(0.5 if dropout else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.conv(F.relu(x))))  # type: ignore[no-any-return]


class Pix2Pix(nn.Module):
    """Reference prior: cloudy `y` [B, bands, H, W] in [0, 1] to clear [B, bands, H, W] in [0, 1], any H×W.

    54.41 M parameters with 3 bands and the paper's 8 levels; sizes that are no multiple of 2^levels are padded and
    cropped; fewer levels suit small crops.
    """

    def __init__(self, bands: int = 3, features: int = 64, levels: int = 8) -> None:
        super().__init__()
        widths = [bands, *(min(features * 2**i, 8 * features) for i in range(levels))]
        self.multiple = 2**levels
        self.downs = nn.ModuleList(
            Down(widths[i], widths[i + 1], act=i > 0, norm=0 < i < levels - 1) for i in range(levels)
        )
        innermost = levels - 1
        self.ups = nn.ModuleList(
            Up(
                widths[i + 1] * (1 if i == innermost else 2),
                widths[i],
                last=i == 0,
                dropout=i < innermost and widths[i] == 8 * features,
            )
            for i in range(levels)
        )

    def forward(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        x = 2 * pad_to_multiple(y, self.multiple) - 1
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        x = self.ups[-1](skips.pop())
        for up in reversed(self.ups[:-1]):
            x = up(torch.cat([skips.pop(), x], 1))
        return crop(torch.tanh(x) / 2 + 0.5, height, width)

    def restore(self, y: Tensor) -> tuple[Tensor, None]:
        return self(y), None

    # L1 with λ = 100 beside the adversarial term (eq. 4)
    def content_losses(self, y: Tensor, x0: Tensor, x: Tensor, extra: None) -> dict[str, Tensor]:
        return {"l1": 100 * F.l1_loss(x, x0)}

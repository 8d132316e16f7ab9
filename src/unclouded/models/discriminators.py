"""Discriminators: is this clear image real, given the cloudy one? One PatchGAN serves every adversarial method.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, section 3.2. They judge
overlapping patches, so they take images of any size, and give logits (no sigmoid).
"""

import torch
from torch import Tensor, nn

from unclouded.errors import UsageError


class PatchGAN(nn.Module):
    """(cloudy y, clear x), each [B, bands, H, W] in [0, 1], to logits [B, 1, h, w]; positive is real.

    `layers` sets the patch: 3 gives the paper's 70×70 pixels (2.77 M parameters with 3 bands and 64 features). Raises
    UsageError for sides below 3 · 2^layers pixels.
    """

    def __init__(self, bands: int = 3, features: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.least = 3 * 2**layers
        widths = [min(features * 2**i, 8 * features) for i in range(layers + 1)]
        blocks: list[nn.Module] = [nn.Conv2d(2 * bands, features, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for i in range(1, layers + 1):
            stride = 2 if i < layers else 1
            blocks += [
                nn.Conv2d(widths[i - 1], widths[i], 4, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[i]),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < self.least:
            raise UsageError(
                f"An image of {x.shape[2]}×{x.shape[3]} pixels is too small for the discriminator. "
                f"Train on crops of {self.least} pixels or more."
            )
        return self.layers(2 * torch.cat([y, x], 1) - 1)  # type: ignore[no-any-return]

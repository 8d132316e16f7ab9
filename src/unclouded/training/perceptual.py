"""The features of a perceptual term: VGG16 up to relu3_3 (Simonyan and Zisserman 2015; Johnson et al. 2016).

MSDA-CR's paper has such a term. The weights are a user's file, as torchvision publishes it; they do not learn and are
part of no checkpoint.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from unclouded.models.backbones import fill

URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
WHERE = (
    f"A perceptual term needs torchvision's VGG16 weights. Download {URL} and give its path with --set perceptual=FILE."
)
WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256)  # 0: max pooling
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the weights expect


class VGG16(nn.Module):
    """x [B, bands, H, W] in [0, 1] to relu3_3 [B, 256, H/4, W/4]; the first three bands, or a single one thrice."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
            channels = width or channels
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        rgb = x[:, :3] if x.shape[1] >= 3 else x[:, :1].expand(-1, 3, -1, -1)
        self.to(x.device)
        features: Tensor = self.features((rgb - cast(Tensor, self.mean)) / cast(Tensor, self.std))
        return features


def load(path: str | Path) -> VGG16:
    """The features with the weights in `path` (.pth or .safetensors); UsageError says where to get them."""
    network = VGG16()
    fill(network, path, "torchvision's VGG16", WHERE)
    return network.requires_grad_(False).eval()

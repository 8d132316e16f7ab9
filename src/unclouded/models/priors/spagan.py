"""SpA-GAN's generator, a reference prior: residual blocks whose correction is multiplied by a spatial attention mask.

Pan, "Cloud Removal for Remote Sensing Imagery via Spatial Attention Generative Adversarial Network", arXiv 2009.13015.
The released weights work on bands in the order blue, green, red; the import reorders the first and the last
convolution, so that here, as everywhere in this package, a band keeps its place between input and output and RGB
files are read as RGB.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False)


CLOUD = 30 / 255  # a pixel is cloud where the bands differ by more, on average


def cloud_map(y: Tensor, x0: Tensor) -> Tensor:
    """M [B, 1, H, W]: 1 where the cloudy image y differs from the clear x0, else 0; what attention should find."""
    return ((y - x0).abs().mean(1, keepdim=True) > CLOUD).to(y)


class FourDirections(nn.Module):
    """Every pixel plus its weighted neighbour, in four directions: [B, C, H, W] to [B, 4C, H, W] (up, right, down,
    left).

    `up` carries the row above into each row. Pixels without a neighbour on that side keep their value.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(channels, channels, 1, groups=channels)
        self.right = nn.Conv2d(channels, channels, 1, groups=channels)
        self.down = nn.Conv2d(channels, channels, 1, groups=channels)
        self.left = nn.Conv2d(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        up = torch.cat([x[:, :, :1], F.relu(self.up(x)[:, :, :-1] + x[:, :, 1:])], 2)
        down = torch.cat([F.relu(self.down(x)[:, :, 1:] + x[:, :, :-1]), x[:, :, -1:]], 2)
        left = torch.cat([x[..., :1], F.relu(self.left(x)[..., :-1] + x[..., 1:])], 3)
        right = torch.cat([F.relu(self.right(x)[..., 1:] + x[..., :-1]), x[..., -1:]], 3)
        return torch.cat([up, right, down, left], 1)


class SpatialAttention(nn.Module):
    """SAM: two four-direction passes make a mask [B, 1, H, W] in (0, 1), high where there is cloud."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.pass1 = FourDirections(channels)
        self.conv_mid = nn.Conv2d(4 * channels, channels, 1)
        self.pass2 = FourDirections(channels)
        self.conv_out = nn.Conv2d(4 * channels, channels, 1)
        self.to_mask = conv(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_mid(self.pass1(self.conv_in(x)))
        x = F.relu(self.conv_out(self.pass2(x)))
        return torch.sigmoid(self.to_mask(x))


class Bottleneck(nn.Module):
    """relu(x + mask · branch(x)), branch = 1×1, 3×3 with dilation 2, 1×1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, channels, 3, dilation=2)
        self.conv3 = conv(channels, channels, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        branch = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(x + (branch if mask is None else branch * mask))


class SPAGAN(nn.Module):
    """Reference prior: cloudy `y` [B, bands, H, W] in [0, 1] to clear [B, bands, H, W] in [0, 1], any H×W (0.22 M
    parameters).

    `restore` also gives the four attention masks, which the attention loss supervises.
    """

    HEAD, GROUPS, GROUP, TAIL = 3, 4, 3, 2  # plain blocks, attended groups and their length, plain blocks

    def __init__(self, bands: int = 3, features: int = 32) -> None:
        super().__init__()
        self.conv_in = conv(bands, features, 3)
        self.blocks = nn.ModuleList(
            Bottleneck(features) for _ in range(self.HEAD + self.GROUPS * self.GROUP + self.TAIL)
        )
        self.attention = SpatialAttention(features)
        self.conv_out = conv(features, bands, 3)

    def forward(self, y: Tensor) -> Tensor:
        return self.restore(y)[0].clamp(0, 1)

    def restore(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The unclamped image [B, bands, H, W] and the masks [B, 1, H, W], one for each attended group."""
        x = F.relu(self.conv_in(y))
        masks: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            group, place = divmod(i - self.HEAD, self.GROUP)
            attended = 0 <= group < self.GROUPS
            if attended and place == 0:  # one shared module, asked anew before each group
                masks.append(self.attention(x))
            x = block(x, masks[-1] if attended else None)
        return self.conv_out(x), masks

    def content_losses(self, y: Tensor, x0: Tensor, x: Tensor, masks: list[Tensor]) -> dict[str, Tensor]:
        """L1 and the attention loss ‖A − M‖², of the mask that stands before the last attended group."""
        return {"l1": 100 * F.l1_loss(x, x0), "attention": F.mse_loss(masks[-1], cloud_map(y, x0))}

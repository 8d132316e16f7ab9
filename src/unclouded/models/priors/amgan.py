"""AMGAN-CR's generator, a reference prior: a recurrent network finds the cloud, a residual network removes it there.

Xu et al., "Attention mechanism-based generative adversarial networks for cloud removal in Landsat images", Remote
Sensing of Environment 271 (2022). The attentive recurrent network passes four times over the image with a
convolutional LSTM, each time with its last attention map as input; the attentive residual network multiplies its
corrections by the last map; a reconstruction network makes the image. Widths are ours, chosen for the 0.24 M
parameters that the DE paper reports.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclouded.models.priors.spagan import Bottleneck, cloud_map


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class Residual(nn.Module):
    """relu(x + two 3×3 convolutions of x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels)
        self.conv2 = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(F.relu(self.conv1(x))))


class ConvLSTM(nn.Module):
    """Shi et al. 2015: an LSTM whose products are 3×3 convolutions; state (h, c), each [B, channels, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = conv(2 * channels, 4 * channels)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class AttentiveRecurrent(nn.Module):
    """y [B, bands, H, W] to one attention map [B, 1, H, W] in (0, 1) per pass; the first pass starts from 0.5."""

    def __init__(self, bands: int, channels: int, passes: int, blocks: int) -> None:
        super().__init__()
        self.passes = passes
        self.features = nn.Sequential(
            conv(bands + 1, channels), nn.ReLU(), *(Residual(channels) for _ in range(blocks))
        )
        self.lstm = ConvLSTM(channels)
        self.to_map = conv(channels, 1)

    def forward(self, y: Tensor) -> list[Tensor]:
        attention = torch.full_like(y[:, :1], 0.5)
        maps: list[Tensor] = []
        state: tuple[Tensor, Tensor] | None = None
        for _ in range(self.passes):
            x = self.features(torch.cat([y, attention], 1))
            state = self.lstm(x, state or (torch.zeros_like(x), torch.zeros_like(x)))
            attention = torch.sigmoid(self.to_map(state[0]))
            maps.append(attention)
        return maps


class AMGAN(nn.Module):
    """Reference prior: cloudy `y` [B, bands, H, W] in [0, 1] to clear [B, bands, H, W] in [0, 1], any H×W."""

    def __init__(self, bands: int = 3, features: int = 32, passes: int = 4, blocks: int = 9) -> None:
        super().__init__()
        self.recurrent = AttentiveRecurrent(bands, features, passes, blocks=3)
        self.conv_in = conv(bands, features)
        self.blocks = nn.ModuleList(Bottleneck(features) for _ in range(blocks))
        self.reconstruction = nn.Sequential(conv(features, features // 2), nn.ReLU(), conv(features // 2, bands))

    def forward(self, y: Tensor) -> Tensor:
        return self.restore(y)[0].clamp(0, 1)

    def restore(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The unclamped image [B, bands, H, W] and the attention map of each pass, [B, 1, H, W]."""
        maps = self.recurrent(y)
        x = F.relu(self.conv_in(y))
        for block in self.blocks:
            x = block(x, maps[-1])
        return y + self.reconstruction(x), maps

    def content_losses(self, y: Tensor, x0: Tensor, x: Tensor, maps: list[Tensor]) -> dict[str, Tensor]:
        """L1, and Σ_t 0.8^(N−t) ‖A_t − M‖²: later maps must fit the cloud map M better (Qian et al. 2018, eq. 4)."""
        M = cloud_map(y, x0)
        fits = [0.8 ** (len(maps) - t) * F.mse_loss(A, M) for t, A in enumerate(maps, 1)]
        return {"l1": 100 * F.l1_loss(x, x0), "attention": torch.stack(fits).sum()}

"""MSDA-CR, a reference prior: a grid of residual dense blocks that tell thin from thick cloud by distortion-aware
attention.

Yu et al., "Cloud Removal in Optical Remote Sensing Imagery Using Multiscale Distortion-Aware Networks", IEEE GRSL 2022.
The grid has three rows (scales) and six columns; columns 0–2 carry features down, 3–5 up. A tail of dilated
convolutions takes the coarsest features and climbs back to full resolution. The published files also hold tensors
without effect on the output; the import leaves them out and names them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS, COLUMNS, DOWNWARD = 3, 6, 3
DILATIONS = (1, 2, 4, 8, 16, 1)


def conv3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation)


def instance_norm(x: Tensor) -> Tensor:
    """Each band of each image to mean 0 and variance 1 (biased, ε = 1e-5); defined for a single pixel too."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-5)


class Dense(nn.Module):
    """Four times x ← concat(x, relu(conv(x))), then a 1×1 convolution back to the first width."""

    def __init__(self, channels: int, growth: int, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv3(channels + i * growth, growth) for i in range(layers))
        self.merge = nn.Conv2d(channels + layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x))], 1)
        return self.merge(x)  # type: ignore[no-any-return]


class ChannelAttention(nn.Module):
    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(mean))))


class DistortionAwareBlock(nn.Module):
    """A residual dense block (RDB) beside a branch that re-colours its normalised features in three ways.

    Where mask A is high the clear-pixel (reflectance) modulation holds; elsewhere mask B mixes the transmission
    modulation with the image-wide style (μ, σ).
    """

    def __init__(self, channels: int, growth: int = 16) -> None:
        super().__init__()
        half = channels // 2
        self.dense = Dense(channels, growth)
        self.dense_normed = Dense(channels, growth)
        self.style_r = conv3(channels, half)
        self.style_t = conv3(channels, half)
        self.global_style = nn.Linear(half, 2 * channels)
        self.gamma_r, self.beta_r = conv3(half, channels), conv3(half, channels)
        self.gamma_t, self.beta_t = conv3(half, channels), conv3(half, channels)
        self.mask_a, self.mask_b = conv3(channels, 1), conv3(channels, 1)
        self.merge = nn.Conv2d(2 * channels, channels, 1)
        self.attention = ChannelAttention(channels)

    def forward(self, x: Tensor) -> Tensor:
        a = self.dense(x) + x
        modulated = self._modulate(instance_norm(x), F.relu(self.style_r(a)), F.relu(self.style_t(a)))
        return self.attention(self.merge(torch.cat([a, modulated], 1))) + x  # type: ignore[no-any-return]

    def _modulate(self, n: Tensor, style_r: Tensor, style_t: Tensor) -> Tensor:
        mu, sigma = self.global_style(style_r.mean((2, 3)))[:, :, None, None].chunk(2, 1)
        m = instance_norm(n + self.dense_normed(n))
        A, B = torch.sigmoid(self.mask_a(m)), torch.sigmoid(self.mask_b(m))
        G = sigma * m + mu
        T = m * (1 + self.gamma_t(style_t)) + self.beta_t(style_t)
        R = m * (1 + self.gamma_r(style_r)) + self.beta_r(style_r)
        return R * A + (T * (1 - B) + G * B) * (1 - A)  # type: ignore[no-any-return]


class Down(nn.Module):
    """Half the size, then twice the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shrink = conv3(channels, channels, stride=2)
        self.widen = conv3(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.widen(F.relu(self.shrink(x))))


class Up(nn.Module):
    """To the size of `like` (about twice), then half the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1)
        self.narrow = conv3(channels, channels // 2)

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        return F.relu(self.narrow(F.relu(self.grow(x, output_size=[height, width]))))


class MSDA(nn.Module):
    """Reference prior: cloudy `y` [B, bands, H, W] in [0, 1] to clear [B, bands, H, W] in [0, 1] (sigmoid), any H×W ≥
    1."""

    def __init__(self, bands: int = 3, features: int = 16) -> None:
        super().__init__()
        widths = [features * 2**i for i in range(ROWS)]
        last = widths[-1]
        # how much of the left neighbour (0) and of the other scale (1) enters a cell; [row, column, 0 | 1, channel]
        self.fusion = nn.Parameter(torch.ones(ROWS, COLUMNS, 2, last))
        self.conv_in = conv3(bands, features)
        self.first = DistortionAwareBlock(features)
        self.grid = nn.ModuleList(
            nn.ModuleList(DistortionAwareBlock(c) for _ in range(COLUMNS - 1)) for c in widths
        )  # grid[row][column] leads from column to column + 1
        self.down = nn.ModuleList(nn.ModuleList(Down(c) for _ in range(DOWNWARD)) for c in widths[:-1])
        self.up = nn.ModuleList(nn.ModuleList(Up(c) for _ in range(COLUMNS - DOWNWARD)) for c in widths[1:])
        self.last = DistortionAwareBlock(features)
        self.context = nn.ModuleList(conv3(last, last, dilation=d) for d in DILATIONS)
        self.tail_up = nn.ModuleList(Up(c) for c in widths[1:])
        self.tail_blocks = nn.ModuleList(DistortionAwareBlock(c) for c in widths[:-1])
        self.conv_out = conv3(features, bands)

    def forward(self, y: Tensor) -> Tensor:
        column = self._downward(self.first(self.conv_in(y)))
        column = self._upward(column)
        return torch.sigmoid(self.conv_out(self._tail(column)))

    def restore(self, y: Tensor) -> tuple[Tensor, None]:
        return self(y), None

    def content_losses(self, y: Tensor, x0: Tensor, x: Tensor, extra: None) -> dict[str, Tensor]:
        """Smooth L1, as in the grid network (GridDehazeNet) that the method builds on."""
        return {"smooth_l1": F.smooth_l1_loss(x, x0)}

    def _weight(self, row: int, column: int, source: int, channels: int, start: int = 0) -> Tensor:
        return self.fusion[row, column, source, start : start + channels, None, None]

    def _fuse(self, row: int, column: int, left: Tensor, other: Tensor) -> Tensor:
        c = left.shape[1]
        return self._weight(row, column, 0, c) * left + self._weight(row, column, 1, c) * other

    def _downward(self, x: Tensor) -> list[Tensor]:
        """Columns 0 to 2; gives column 2, one tensor a row."""
        cells = [x]
        for row in range(1, ROWS):
            cells.append(self.down[row - 1][0](cells[-1]))  # type: ignore[index]
        for column in range(1, DOWNWARD):
            cells[0] = self.grid[0][column - 1](cells[0])  # type: ignore[index]
            for row in range(1, ROWS):
                left = self.grid[row][column - 1](cells[row])  # type: ignore[index]
                cells[row] = self._fuse(row, column, left, self.down[row - 1][column](cells[row - 1]))  # type: ignore[index]
        return cells

    def _upward(self, cells: list[Tensor]) -> list[Tensor]:
        """Columns 3 to 5; gives column 5."""
        for column in range(DOWNWARD, COLUMNS):
            cells[-1] = self.grid[-1][column - 1](cells[-1])  # type: ignore[index]
            for row in reversed(range(ROWS - 1)):
                left = self.grid[row][column - 1](cells[row])  # type: ignore[index]
                up = self.up[row][column - DOWNWARD](cells[row + 1], left)  # type: ignore[index]
                cells[row] = self._fuse(row, column, left, up)
        return cells

    def _tail(self, cells: list[Tensor]) -> Tensor:
        """Context at the coarsest scale, then up; the fusion weights are those of column 0, which the grid leaves
        free."""
        x = cells[-1]
        for layer in self.context:
            x = F.relu(layer(x))
        cells[0] = self.last(cells[0])
        for row in reversed(range(ROWS - 1)):
            up, c = self.tail_up[row](x, cells[row]), cells[row].shape[1]
            fused = self._weight(row, 0, 0, c) * cells[row] + self._weight(row, 0, 0, c, start=c) * up
            x = self.tail_blocks[row](fused)
        return x

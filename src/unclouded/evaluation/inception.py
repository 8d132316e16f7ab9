"""Inception v3 as FID takes it (Szegedy et al. 2016; the TensorFlow graph of 2015-12-05 that Heusel et al. 2017 used),
without torchvision: 2048 numbers an image, the mean of the last block over all places.

Names are those of the weights file that torch-fidelity publishes and torchmetrics uses.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unclouded.models.backbones import fill

WEIGHTS_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
WHERE = f"FID needs Inception v3's weights of 2015-12-05. Download {WEIGHTS_URL} and give its path with --fid."
SIDE = 299  # pixels, whatever the image's size


class Conv(nn.Module):
    """Convolution, batch norm, ReLU; a kernel of several sizes is (height, width)."""

    def __init__(
        self, inside: int, out: int, kernel: int | tuple[int, int] = 1, stride: int = 1, pad: bool = True
    ) -> None:
        super().__init__()
        sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sizes[0] // 2, sizes[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(inside, out, sizes, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def mean_of_neighbours(x: Tensor) -> Tensor:
    """Over 3×3 places; those outside the image do not count, as in the graph of 2015."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35×35 places."""

    def __init__(self, inside: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(inside, 64)
        self.branch5x5_1, self.branch5x5_2 = Conv(inside, 48), Conv(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64), Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(inside, pooled)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(mean_of_neighbours(x))], 1)


class BlockB(nn.Module):
    """35×35 places to 17×17."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(inside, 384, 3, stride=2, pad=False)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 64), Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17×17 places; 7×7 as rows and columns of `c` channels."""

    def __init__(self, inside: int, c: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Conv(inside, 192)
        self.branch7x7_1, self.branch7x7_2, self.branch7x7_3 = Conv(inside, c), Conv(c, c, row), Conv(c, 192, column)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = Conv(inside, c), Conv(c, c, column)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = Conv(c, c, row), Conv(c, c, column)
        self.branch7x7dbl_5 = Conv(c, 192, row)
        self.branch_pool = Conv(inside, 192)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(mean_of_neighbours(x))], 1)


class BlockD(nn.Module):
    """17×17 places to 8×8."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(inside, 192), Conv(192, 320, 3, stride=2, pad=False)
        self.branch7x7x3_1, self.branch7x7x3_2 = Conv(inside, 192), Conv(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = Conv(192, 192, (7, 1)), Conv(192, 192, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8×8 places; the last block of the graph takes the largest neighbour where the others take the mean."""

    def __init__(self, inside: int, largest: bool) -> None:
        super().__init__()
        self.largest = largest
        row, column = (1, 3), (3, 1)
        self.branch1x1 = Conv(inside, 320)
        self.branch3x3_1 = Conv(inside, 384)
        self.branch3x3_2a, self.branch3x3_2b = Conv(384, 384, row), Conv(384, 384, column)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(inside, 448), Conv(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Conv(384, 384, row), Conv(384, 384, column)
        self.branch_pool = Conv(inside, 192)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.largest else mean_of_neighbours(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    """uint8 [B, 3, H, W] -> [B, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = BlockA(192, 32), BlockA(256, 64), BlockA(288, 64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b, self.Mixed_7c = BlockE(1280, largest=False), BlockE(2048, largest=True)

    def forward(self, x: Tensor) -> Tensor:
        x = (resized(x.float()) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


def load(path: str | Path) -> Inception:
    """Inception with the weights in `path` (.pth or .safetensors).

    Raises UsageError where the file is absent, saying where to get it, and UncloudedError for another network's.
    """
    network = Inception()
    fill(network, path, "Inception v3 as FID takes it", WHERE)
    return network.eval()


def resized(x: Tensor) -> Tensor:
    """[B, C, H, W] to 299×299, bilinear as TensorFlow 1 does it: pixel i of n stands at i · size / n."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = torch.arange(SIDE, device=x.device) * (size / SIDE)
        before = at.floor().long()
        after = (before + 1).clamp(max=size - 1)
        share = (at - before).to(x).view(-1, *(1,) * (3 - axis))
        x = x.index_select(axis, before) * (1 - share) + x.index_select(axis, after) * share
    return x

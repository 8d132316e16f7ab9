"""Means over a window around each pixel."""

import torch.nn.functional as F
from torch import Tensor


def window_mean(x: Tensor, size: int) -> Tensor:
    """[B, C, H, W] -> the same shape: the mean of the size×size pixels around each, at borders of those that exist.
    `size` is odd."""
    reach = size // 2
    rows = F.avg_pool2d(x, (size, 1), stride=1, padding=(reach, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, size), stride=1, padding=(0, reach), count_include_pad=False)

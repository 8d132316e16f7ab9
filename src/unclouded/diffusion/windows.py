"""Means over a window around each pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor


def window_mean(x: Tensor, size: int) -> Tensor:
    """[B, C, H, W] -> the same shape: the mean of the size×size pixels around each, at borders of those that exist.
    `size` is odd."""
    rows, cols = (_sums(x.new_ones(n), size) for n in x.shape[-2:])  # how many exist
    return _sums(_sums(x.mT, size).mT, size) / (rows[:, None] * cols)


def _sums(x: Tensor, size: int) -> Tensor:
    """Along the last axis the sum of the `size` values around each, 0 beyond the borders: put together from sums of 1,
    2, 4, 8 … neighbours, each made of the one before, so that the work grows with the logarithm of the size."""
    length, reach = x.shape[-1], size // 2
    runs = F.pad(x, (reach, reach))  # runs[i]: the sum of 2^k values from i on
    total, first = torch.zeros_like(x), 0
    for k in range(size.bit_length()):
        if k:
            half = 2 ** (k - 1)
            runs = runs[..., :-half] + runs[..., half:]
        if size >> k & 1:
            total = total + runs[..., first : first + length]
            first += 2**k
    return total

"""Group normalisation in float32 inside, whatever the precision around it, for every device in its own best way."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def uncast(x: Tensor) -> AbstractContextManager[Any]:
    """Where tensors like `x` keep their precision, whatever autocast says around it."""
    return nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)


def groups(channels: int) -> int:
    """32 norm groups where they divide the width; else as many as leave at least four channels in each."""
    if channels % 32 == 0:
        return 32
    return max(g for g in range(1, max(channels // 4, 1) + 1) if channels % g == 0)


class Norm(nn.GroupNorm):
    """Normalises each group of channels of each image; the answer has x's dtype."""

    def __init__(self, channels: int, num_groups: int | None = None) -> None:
        super().__init__(num_groups or groups(channels), channels, eps=1e-5)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """norm(x), or norm(x)·(1 + scale) + shift with both [B, C] or, the same for all images, [1, C]."""
        weight, bias = self.weight.float(), self.bias.float()
        if scale is not None and shift is not None:  # folded into the norm's own weights: one pass over the image less
            scale = 1 + scale.float()
            weight, bias = weight * scale, bias * scale + shift.float()
        if x.device.type == "cuda":
            return by_channels(x, self.num_groups, weight, bias, self.eps)
        if weight.numel() == self.num_channels:
            return self._norm(x, weight.flatten(), bias.flatten()).to(x.dtype)
        h = self._norm(x.float(), None, None)
        return torch.addcmul(bias[:, :, None, None], h, weight[:, :, None, None]).to(x.dtype)

    def _norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if x.device.type != "cpu":  # the CPU's kernel reads bfloat16 and computes in float32 by itself
            x = x.float()
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def by_channels(x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The same in whole passes over x [B, C, H, W] as it lies in memory; `weight` and `bias` are [C] or [1 or B, C].

    CUDA's own kernel copies channels_last images to another layout and back, and under autocast to float32 as well.
    Sums of each channel are read in any layout; what a group needs follows from those of its channels.
    """
    with uncast(x):
        size, channels, pixels = len(x), x.shape[1], x.shape[2] * x.shape[3]
        mean = x.mean((2, 3), dtype=torch.float32).view(size, num_groups, -1)
        norm = torch.linalg.vector_norm(x, dim=(2, 3), dtype=torch.float32)
        square = (norm.square() / pixels).view(size, num_groups, -1)
        mean, square = mean.mean(2, keepdim=True), square.mean(2, keepdim=True)
        factor = torch.rsqrt((square - mean.square()).clamp(min=0) + eps)  # [B, groups, 1]
        each = (size, num_groups, channels // num_groups)
        factor, mean = factor.expand(each).reshape(size, channels), mean.expand(each).reshape(size, channels)
        factor = factor * weight
        offset = (bias - mean * factor)[:, :, None, None]
        factor = factor[:, :, None, None]
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return (x * factor + offset).to(x.dtype)
        return torch.addcmul(offset, x, factor, out=torch.empty_like(x))

"""Noise that belongs to the scene: a function of (seed, stream, row, column, band) and of nothing else.

Tiles that overlap start from the same noise, whatever their order, batch, process or device, because no generator has a
state to advance: the value at a position is computed from the position (Salmon et al. 2011, "as easy as 1, 2, 3").
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, the increment of SplitMix64
_BLOCK = 1 << 15  # values mixed at a time: they stay in the cache


def noise_field(seed: int, height: int, width: int, bands: int, row: int = 0, col: int = 0, stream: int = 0) -> Tensor:
    """Standard normal noise, [bands, height, width] float32, of the pixels from (row, col) of an endless scene.

    A field at (row, col) is the crop there of the whole field; positions may be negative. `stream` numbers independent
    fields: 0 is x_T, k the noise of step k. Any integers serve as seed and stream (taken modulo 2^64).

    Each row of each pair of bands is a SplitMix64 sequence (Steele et al. 2014) that begins at a hash of (seed, stream,
    pair, row); column c has its c-th word. The halves of the word give a pair of normals by Box–Muller.
    """
    rows, cols, pairs = _range(row, height), _range(col, width), _range(0, (bands + 1) // 2)
    key = _mix(_mix(_word(seed)) + _word(stream))
    starts = _mix(_mix(key + pairs * _GOLDEN)[:, None] + rows * _GOLDEN).reshape(-1, 1)  # [pairs · height, 1]
    words = np.empty((len(starts), width), np.uint64)
    step = max(1, _BLOCK // max(width, 1))
    for i in range(0, len(starts), step):
        words[i : i + step] = _mix(starts[i : i + step] + cols * _GOLDEN)
    normals = _box_muller(torch.from_numpy(words.view(np.uint32)).view(len(pairs), height, width, 2))
    return normals.flatten(0, 1)[:bands]


def _word(value: int) -> Words:
    return np.array([value % 2**64], np.uint64)


def _range(first: int, count: int) -> Words:
    return np.arange(first, first + count, dtype=np.int64).astype(np.uint64)


# The output function of SplitMix64: a bijection of 64-bit words (Stafford's mix 13)
def _mix(words: Words) -> Words:
    words = words + _GOLDEN
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


# z = √(−2 ln u) · (cos 2πv, sin 2πv), u in (0, 1], v in [0, 1)
def _box_muller(halves: Tensor) -> Tensor:
    """[pairs, H, W, 2] 32-bit words -> [pairs, 2, H, W] standard normal."""
    uniform = halves.to(torch.float32).mul_(2.0**-32)
    radius = uniform[..., 0].add_(2.0**-33).log_().mul_(-2).sqrt_()
    angle = uniform[..., 1].mul_(2 * torch.pi)
    normals = torch.empty(halves.shape[0], 2, *halves.shape[1:3])
    torch.mul(radius, angle.cos(), out=normals[:, 0])
    torch.mul(radius, angle.sin(), out=normals[:, 1])
    return normals

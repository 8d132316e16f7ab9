"""A restorer that is a function, for whole scenes without a network; and pixels of every type to give it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unclouded.scenes.bands import BandSet

RGB = BandSet.display("red", "green", "blue")
DTYPES = ["uint8", "uint16", "int16", "float32", "float64"]


class Answer(NamedTuple):
    clear: Tensor
    w: Tensor | None = None
    spread: Tensor | None = None


class Double:
    """A restorer that applies a function to y; it remembers the batches that it saw."""

    def __init__(self, function: Callable[[Tensor], Tensor] = lambda y: y, bands: BandSet = RGB) -> None:
        self.function = function
        self.bands = bands
        self.origins: list[tuple[int, int]] = []

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Answer:
        assert y.dtype == torch.float32
        assert y.shape[1] == len(self.bands)
        assert float(y.min()) >= 0
        assert float(y.max()) <= 1
        self.origins += origins
        clear = self.function(y)
        return Answer(clear, torch.full_like(y, 0.25), torch.full_like(y, 0.01))


def local(y: Tensor) -> Tensor:
    """A model whose answer at a pixel depends on that pixel alone."""
    return 1 - y**2


def numbers(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.uniform(-0.05, 1.2, shape).astype(dtype)
    low, high = (0, 255) if dtype == "uint8" else (0, 14000) if dtype == "uint16" else (-300, 14000)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)

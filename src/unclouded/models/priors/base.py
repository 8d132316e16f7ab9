"""The contract of a reference prior E (eq. 10): any end-to-end restoration network."""

from typing import Protocol

from torch import Tensor


class Prior(Protocol):
    """y [B, C, H, W] in [0, 1] -> estimate of the clear image, same shape and range. Any H, W ≥ 1: it pads and crops
    itself."""

    def __call__(self, y: Tensor) -> Tensor: ...

"""Any image size for networks that halve theirs: pad to a multiple, crop back. Padding is at the bottom and right only,
so that pixel (0, 0) stays where the scene's noise field has it."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`x` [B, C, H, W] with H and W grown to multiples of `multiple`, by reflection at the bottom and right.

    An axis too short to reflect (padding ≥ size) repeats its last row or column instead.
    """
    bottom, right = (-size % multiple for size in x.shape[-2:])
    for pad, axis in (((0, 0, 0, bottom), -2), ((0, right, 0, 0), -1)):
        if any(pad):
            x = F.pad(x, pad, mode="reflect" if max(pad) < x.shape[axis] else "replicate")
    return x


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left `height` × `width` pixels of `x` [..., H, W]: undoes `pad_to_multiple`."""
    return x[..., :height, :width]

"""Any image size for networks that halve theirs: pad to a multiple, crop back; and surroundings for what ends at an
image's border. Padding to a multiple is at the bottom and right only, so that pixel (0, 0) stays where it was."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """`x` [B, C, H, W] with H and W grown to multiples of `multiple`, by reflection at the bottom and right.

    An axis too short to reflect (padding ≥ size) repeats its last row or column instead.
    """
    bottom, right = (-size % multiple for size in x.shape[-2:])
    return _padded(x, 0, bottom, 0, right)


def _padded(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    for pad, axis in (((0, 0, top, bottom), -2), ((left, right, 0, 0), -1)):
        if any(pad):
            x = F.pad(x, pad, mode="reflect" if max(pad) < x.shape[axis] else "replicate")
    return x


def with_margin(x: Tensor, margin: int) -> Tensor:
    """`x` [B, C, H, W] with `margin` more pixels on each side, by reflection as `pad_to_multiple` does it."""
    return _padded(x, margin, margin, margin, margin)


def without_margin(x: Tensor, margin: int) -> Tensor:
    """Undoes `with_margin`."""
    return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin]


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The top left `height` × `width` pixels of `x` [..., H, W]: undoes `pad_to_multiple`."""
    return x[..., :height, :width]

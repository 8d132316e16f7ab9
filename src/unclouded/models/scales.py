"""One answer from several resolutions: detail as the finest has it, tones as all of them see them.

A network that was trained on squares of some size tells the colours under a wide cloud by too little ground; at half
the resolution it sees twice as far. Answers of several scales are joined as in a Laplacian pyramid (Burt and
Adelson 1983).
"""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor


def pyramid(x: Tensor, scales: int) -> Iterator[Tensor]:
    """`x` [B, C, H, W], then at half the resolution, at a quarter … `scales` images in all."""
    yield x
    for _ in range(scales - 1):
        x = halved(x)
        yield x


def joined(answers: Sequence[Tensor], share: float) -> Tensor:
    """The first answer, where what the next one, of half the resolution, resolves counts by `share` in the next one's
    way. The next one is joined with those after it before."""
    *finer, answer = answers
    for fine in reversed(finer):
        answer = fine + share * _doubled(answer - halved(fine), *fine.shape[-2:])
    return answer


def halved(x: Tensor) -> Tensor:
    """The mean of each 2×2 block; a last row or column that fills none is halved by itself."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _doubled(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")[..., :height, :width]

"""Training batches as a function of (seed, stage, index): the n-th example is the same in any process, at any time.

That is what makes a resumed run equal an uninterrupted one: the position in the data is a number, there is no state to
save.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from unclouded.training.pools import Array, PairPool, Pool, shrink
from unclouded.training.values import Stage


class Examples(Dataset[tuple[Tensor, Tensor]]):
    """Example n of a stage: (y [N·C + sar, size, size], x0 [C, size, size]) in [0, 1]; flipped and turned by quarters
    at random."""

    def __init__(self, pools: Sequence[Pool], weights: Sequence[float], stage: Stage, key: tuple[int, ...]) -> None:
        self.pools = pools
        self.shares = np.array(weights) / sum(weights)
        self.stage = stage
        self.key = key

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((*self.key, n))
        pool = self.pools[rng.choice(len(self.pools), p=self.shares)]
        y, x0 = pool.draw(rng, self.stage.size_at(n // self.stage.batch_size) * self.stage.shrink)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        return self._finish(y, turns, flip), self._finish(x0, turns, flip)

    def _finish(self, image: Array, turns: int, flip: bool) -> Tensor:
        turned = np.rot90(shrink(image, self.stage.shrink), turns, axes=(1, 2))
        return torch.from_numpy(np.ascontiguousarray(turned[:, :, ::-1] if flip else turned))


def batches(
    examples: Examples, first_step: int, *, rank: int = 0, world: int = 1, workers: int = 0, pinned: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of steps first_step, first_step + 1, … of the stage; each process takes every `world`-th example.
    `pinned` puts them where a GPU can fetch them by itself."""
    stage = examples.stage
    order = range(first_step * stage.batch_size + rank, stage.steps * stage.batch_size, world)
    size = stage.batch_size // world
    loader = DataLoader(examples, batch_size=size, sampler=order, num_workers=workers, pin_memory=pinned)
    return iter(loader)


def fixed_pairs(pool: Pool, count: int, side: int) -> list[tuple[Array, Array]]:
    """A validation list: the first `count` real pairs, whole, or that many fixed draws from a simulated source."""
    if isinstance(pool, PairPool):
        return [pool.whole(n) for n in range(min(count, len(pool)))]
    return [pool.draw(np.random.default_rng((0, n)), side) for n in range(count)]

"""Seams: with a model whose tiles disagree at random, tile borders show no larger steps than the tiles' insides."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unclouded.restore_array import restore_array
from unclouded.scenes.bands import BandSet
from unclouded.scenes.tiles import TileGrid

SIZE, TILE, SEEDS = 150, 48, 40


class Disagreeing:
    """Every tile gets an offset of its own, and noise that is not a function of scene position."""

    bands = BandSet.display("grey")

    def __init__(self, seed: int, noise: float) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        self.noise = noise

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        offset = torch.rand((len(y), 1, 1, 1), generator=self.draw)
        noise = self.noise * torch.randn(y.shape, generator=self.draw)
        return SimpleNamespace(clear=offset + noise)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_steps_at_tile_borders_are_no_larger_than_elsewhere(noise: float) -> None:
    grid = TileGrid(SIZE, SIZE, TILE, TILE // 4)
    borders = sorted({edge for c in grid.col_starts for edge in (c, c + TILE) if 0 < edge < SIZE})
    inside = [c for c in range(1, SIZE) if c not in borders]
    image = np.zeros((1, SIZE, SIZE), np.float32)
    at_borders, elsewhere = [], []
    for seed in range(SEEDS):
        out = restore_array(image, Disagreeing(seed, noise), tile=TILE)[0]
        for scene in (out, out.T):
            steps = np.abs(np.diff(scene, axis=1))
            at_borders.append(steps[:, [b - 1 for b in borders]])
            elsewhere.append(steps[:, [c - 1 for c in inside]])
    assert np.max(at_borders) <= np.max(elsewhere)
    assert np.mean(at_borders) <= np.mean(elsewhere) * (1.0 if noise == 0 else 1.02)

"""Tiles that two panels share: those that the next one needs come back to the bit, and none is kept longer."""

import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pytest

from unclouded.scenes.tiles import Window
from unclouded.shared_tiles import SharedTiles


@pytest.fixture
def file() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile(buffering=0) as opened:
        yield opened


def tile(row: int, col: int) -> Window:
    return Window(row, col, 4, 8)


def values(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 4, 8), np.float32)


def test_what_reaches_into_the_next_panel_comes_back(file: BinaryIO) -> None:
    shared = SharedTiles(file)
    shared.keep_beyond(20)
    for n in range(50):
        shared.put(tile(n, 12), values(n))  # ends where the next panel begins
        shared.put(tile(n, 13), values(100 + n).transpose(0, 2, 1).copy().transpose(0, 2, 1))
    shared.keep_beyond(None)
    for n in range(50):
        assert tile(n, 12) not in shared
        np.testing.assert_array_equal(shared.take(tile(n, 13)), values(100 + n))
        assert tile(n, 13) not in shared


def test_the_file_does_not_grow_with_the_panels(file: BinaryIO) -> None:
    shared = SharedTiles(file)
    for panel in range(1, 9):
        shared.keep_beyond(10 * panel)
        for n in range(20):
            if panel > 1:
                shared.take(tile(n, 10 * (panel - 1) - 4))
            shared.put(tile(n, 10 * panel - 4), values(n))
    assert os.fstat(file.fileno()).st_size <= 21 * values(0).nbytes


def test_a_tile_may_reach_into_more_than_one_panel(file: BinaryIO) -> None:
    shared = SharedTiles(file)
    shared.keep_beyond(5)
    shared.put(tile(0, 0), values(0))
    shared.keep_beyond(7)
    shared.take(tile(0, 0))
    assert tile(0, 0) in shared
    shared.keep_beyond(9)
    np.testing.assert_array_equal(shared.take(tile(0, 0)), values(0))
    assert tile(0, 0) not in shared


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_keeps_none() -> None:
    with open("/dev/full", "r+b", buffering=0) as full:
        shared = SharedTiles(full)
        shared.keep_beyond(0)
        shared.put(tile(0, 0), values(0))
    assert tile(0, 0) not in shared

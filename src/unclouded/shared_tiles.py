"""Tiles that two panels need, restored once: from the panel that makes them they wait in a file for the next."""

import threading
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes.tiles import Window

Float32 = NDArray[np.float32]


class SharedTiles:
    """Restored tiles [channels, h, w], all of one shape, by their window. Threads may use it together.

    `file` is unbuffered, and empty at first. What is not in it is restored again: a resumed run begins without any, and
    a disk that has no room takes none.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._slots: dict[Window, int] = {}
        self._free: list[int] = []
        self._shape: tuple[int, ...] = ()
        self._beyond: int | None = None
        self._lock = threading.Lock()

    def keep_beyond(self, column: int | None) -> None:
        """From now on keep the tiles that reach beyond this column of the scene, where the next panel begins; with None
        there is no next panel."""
        self._beyond = column

    def put(self, tile: Window, values: Float32) -> None:
        """Keep the tile if the next panel needs it."""
        if not self._is_shared(tile):
            return
        with self._lock:
            slot = self._free.pop() if self._free else len(self._slots)
            self._shape = values.shape
            try:
                self._file.seek(slot * values.nbytes)
                whole = self._file.write(np.ascontiguousarray(values).data) == values.nbytes
            except OSError:
                whole = False
            if whole:
                self._slots[tile] = slot
            else:
                self._free.append(slot)

    def __contains__(self, tile: Window) -> bool:
        return tile in self._slots

    def take(self, tile: Window) -> Float32:
        """The kept tile, which makes room for another if the next panel does not need it, too."""
        with self._lock:
            slot = self._slots[tile]
            if not self._is_shared(tile):
                del self._slots[tile]
                self._free.append(slot)
            values = np.empty(self._shape, np.float32)
            self._file.seek(slot * values.nbytes)
            values.data.cast("B")[:] = self._file.read(values.nbytes)
            return values

    def _is_shared(self, tile: Window) -> bool:
        return self._beyond is not None and tile.right > self._beyond

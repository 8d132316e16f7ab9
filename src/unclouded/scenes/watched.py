"""Files that GDAL writes through, so that a write that the system refused is noticed.

GDAL takes some failed writes for done (a full disk then shows only when the file is read), so every write passes here.
"""

import io
import os
from typing import Any


class WatchedFiles:
    """An `opener` for rasterio.open: plain files whose first failed write is remembered."""

    def __init__(self) -> None:
        self._error: OSError | None = None

    def __call__(self, path: str, mode: str = "rb", **_: Any) -> "_WatchedFile":
        return _WatchedFile(path, mode.replace("b", "").replace("t", ""), self)

    def check(self) -> None:
        """Raises the OSError of the first write that failed."""
        if self._error is not None:
            raise self._error

    def note(self, error: OSError) -> None:
        self._error = self._error or error


class _WatchedFile(io.FileIO):
    def __init__(self, path: str, mode: str, watched: WatchedFiles) -> None:
        super().__init__(path, mode)
        self._watched = watched

    def write(self, data: Any) -> int:
        """All of `data`, or what the system took before it refused."""
        view, done = memoryview(data).cast("B"), 0
        try:
            while done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self._watched.note(error)
        return done

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:  # rasterio cannot take an exception here
            self._watched.note(error)
            return os.fstat(self.fileno()).st_size

"""A write that the system refuses does not pass for done."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unclouded.scenes.failures import NoRoomError
from unclouded.scenes.output import write_geotiff
from unclouded.scenes.pictures import array_info
from unclouded.scenes.raster import Array, ColorInterp
from unclouded.scenes.tiles import Window
from unclouded.scenes.watched import WatchedFiles


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 8, 100_000, 600 * 900 * 2])
def test_a_geotiff_that_the_disk_has_no_room_for(tmp_path: Path, size: int) -> None:
    """Whether the first, some or only the last bytes did not fit, which GDAL itself says of none."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (1, 600, 900)).astype(np.uint16)
    info = replace(
        array_info("noise", "raster", pixels, (ColorInterp.gray,)), layout={"compress": "none", "blockysize": 1}
    )

    def rows(window: Window) -> Array:
        return pixels[:, window.rows, window.cols]

    with files_of_at_most(size), pytest.raises(NoRoomError, match="Make room"):
        write_geotiff(tmp_path / "out.tif", info, rows)
    (tmp_path / "out.tif").unlink(missing_ok=True)
    write_geotiff(tmp_path / "out.tif", info, rows)
    assert (tmp_path / "out.tif").stat().st_size > pixels.nbytes >= size


def test_the_first_failure_is_remembered_and_what_was_taken_is_counted(tmp_path: Path) -> None:
    files = WatchedFiles()
    with files(str(tmp_path / "a"), "w+b") as file:
        assert file.write(b"abc") == 3
        files.check()
        with files_of_at_most(5):
            assert file.write(b"defg") == 2
            assert file.write(b"h") == 0
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        assert file.read() == b"abcde"
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
        files.check()

"""`unclouded remove` loses nothing: neither older files nor, when it is cut short, the rows that are finished."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from scene_files import random_tif, truncated_tif


def test_nothing_is_replaced_unasked(remove: Any, tmp_path: Path) -> None:
    source, target = random_tif(tmp_path / "in.tif"), tmp_path / "out.tif"
    target.write_text("precious")
    code, _, err = remove(source, target)
    assert (code, target.read_text()) == (1, "precious")
    assert "--overwrite" in err
    assert remove(source, target, "--overwrite")[0] == 0
    before = source.read_bytes()
    (tmp_path / "link.tif").symlink_to(source)
    for same in (source, tmp_path / "." / "in.tif", tmp_path / "link.tif"):
        code, _, err = remove(source, same, "--overwrite")
        assert code == 2
        assert "are the same file" in err
    assert source.read_bytes() == before


def test_a_failed_overwrite_keeps_the_old_result(remove: Any, double: Any, tmp_path: Path) -> None:
    target = random_tif(tmp_path / "out.tif")
    before = target.read_bytes()
    code, _, err = remove(truncated_tif(tmp_path / "in.tif"), target, "--overwrite")
    assert code == 1, err
    assert target.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="needs folder permissions")
def test_an_unwritable_folder(remove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = random_tif(tmp_path / "in.tif"), tmp_path / "locked"
    folder.mkdir()
    real = Path.mkdir

    def mkdir(
        self: Path, *args: Any, **options: Any
    ) -> None:  # root may write everywhere, so permissions are acted out
        if self.parent == folder:
            raise PermissionError(13, "Permission denied")
        real(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    code, _, err = remove(source, folder / "out.tif")
    assert code == 1
    assert "may not be written" in err


def test_a_full_disk_while_restoring(remove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = random_tif(tmp_path / "in.tif", size=(100, 80)), tmp_path / "out.tif"
    options = ("--tile", 32, "--overlap", 8)
    calls = []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) == 7:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        code, _, err = remove(source, target, *options)
    assert code == 1
    assert "disk became full" in err
    assert "--resume" in err
    assert not target.exists()
    assert remove(source, target, *options, "--resume")[0] == 0
    assert remove(source, tmp_path / "at_once.tif", *options)[0] == 0
    assert target.read_bytes() == (tmp_path / "at_once.tif").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at_once.tif", "in.tif", "out.tif"]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As in a terminal: whoever runs the tests in the background of a shell has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_nothing_under_the_final_name(remove: Any, double: Any, tmp_path: Path) -> None:
    source, target = random_tif(tmp_path / "in.tif", size=(100, 80)), tmp_path / "out.tif"
    batches = []

    def interrupt() -> None:
        batches.append(1)
        if len(batches) == 5:
            signal.raise_signal(signal.SIGINT)

    double.on_batch = interrupt
    options = ("--tile", 32, "--overlap", 8, "--batch-size", 2)
    code, out, err = remove(source, target, *options)
    assert (code, out) == (130, "")
    assert "--resume goes on" in err
    assert "Interrupted" in err
    assert not target.exists()
    assert threading.active_count() == 1
    double.on_batch = lambda: None
    assert remove(source, target, *options, "--steps", 9, "--resume")[2].startswith(
        "Error: The unfinished run had sampling"
    )
    assert remove(source, target, *options, "--resume")[0] == 0
    with rasterio.open(source) as a, rasterio.open(target) as b:
        np.testing.assert_array_equal(b.read(), 255 - a.read())

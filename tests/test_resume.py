"""A run that is killed at any moment goes on to the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

CHILD = """
import sys, time
from types import SimpleNamespace
import torch
from unclouded.whole_scene import restore_scene
from unclouded.scenes.bands import BandSet

class Slow:
    bands = BandSet.display("red", "green", "blue")
    def restore(self, y, origins, sampling=None):
        time.sleep(0.004)
        return SimpleNamespace(clear=1 - y**2, spread=y / 10)

target = sys.argv[2]
restore_scene(
    sys.argv[1],
    target,
    model=Slow(),
    tile=32,
    overlap=8,
    batch_size=3,
    panel_width=120,
    mask=sys.argv[4],
    uncertainty_out=target + ".u.tif",
    mask_out=target + ".m.tif",
    resume=sys.argv[3] == "resume",
)
"""


def start(source: Path, target: Path, how: str, mask: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", CHILD, source, target, how, mask], env=environment)


def outputs(target: Path) -> list[bytes]:
    return [Path(f"{target}{suffix}").read_bytes() for suffix in ("", ".u.tif", ".m.tif")]


def killed_and_resumed(folder: Path, source: Path, mask: str, times: int, seed: int) -> int:
    """How many of `times` runs, killed at random moments (some more than once), end with other bytes."""
    whole = folder / "whole.tif"
    assert start(source, whole, "fresh", mask).wait() == 0
    expected, draw, different = outputs(whole), random.Random(seed), 0
    for number in range(times):
        target, how = folder / f"killed{number}.tif", "fresh"
        partial = folder / f".killed{number}.tif.partial"
        for _ in range(draw.randint(1, 3)):
            child = start(source, target, how, mask)
            while child.poll() is None and not (partial / "progress.json").exists():
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 1.5))
            child.send_signal(signal.SIGKILL)
            child.wait()
            if not partial.exists():
                break
            how = "resume"
        if partial.exists():
            assert not target.exists() or target.read_bytes() == expected[0]
            assert start(source, target, how, mask).wait() == 0
        different += outputs(target) != expected
        assert not partial.exists()
        target.unlink()
    return different


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 3500, (3, 330, 250)).astype(np.uint16)
    profile = {"driver": "GTiff", "count": 3, "height": 330, "width": 250, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "in.tif", "w", **profile, transform=Affine(10, 0, 5e5, 0, -10, 4.6e6)) as file:
        file.write(pixels)
    return tmp_path / "in.tif"


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """Clear at the top, in the middle and at the bottom, so that rows are kept between those that are stored."""
    cloudy = np.zeros((1, 330, 250), np.uint8)
    cloudy[:, 50:120, 30:100] = cloudy[:, 200:290] = 1
    with rasterio.open(tmp_path / "mask.tif", "w", driver="GTiff", count=1, height=330, width=250, dtype="uint8",
                       crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 4.6e6)) as file:  # fmt: skip
        file.write(cloudy)
    return str(tmp_path / "mask.tif")


@pytest.mark.parametrize(("of", "seed"), [("auto", 3), ("file", 5)])
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, source: Path, mask: str, of: str, seed: int) -> None:
    assert killed_and_resumed(tmp_path, source, mask if of == "file" else of, times=1, seed=seed) == 0


@pytest.mark.slow
@pytest.mark.parametrize("of", ["none", "auto", "file"])
def test_twenty_kills_twenty_equal_results(tmp_path: Path, source: Path, mask: str, of: str) -> None:
    assert killed_and_resumed(tmp_path, source, mask if of == "file" else of, times=20, seed=0) == 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a tmpfs")
@pytest.mark.parametrize("kib", [60, 200, 700, 1100, 1500])
def test_a_disk_that_is_really_full(tmp_path: Path, source: Path, kib: int) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", small], check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        whole, target = tmp_path / "whole.tif", small / "out.tif"
        assert start(source, whole, "fresh", "none").wait() == 0
        assert start(source, target, "fresh", "none").wait() != 0
        assert not target.exists()
        subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
        how = "resume" if (small / ".out.tif.partial").exists() else "fresh"
        assert start(source, target, how, "none").wait() == 0
        assert outputs(target) == outputs(whole)
    finally:
        subprocess.run(["umount", small], check=False)
        shutil.rmtree(small, ignore_errors=True)


def test_a_half_written_product_is_written_again(tmp_path: Path, source: Path) -> None:
    """Killed while the final file was being written: what GDAL left of it is in the way of nothing."""
    whole, target = tmp_path / "whole.tif", tmp_path / "out.tif"
    assert start(source, whole, "fresh", "none").wait() == 0
    child = start(source, target, "fresh", "none")
    partial = tmp_path / ".out.tif.partial"
    while not (partial / "progress.json").exists():
        time.sleep(0.005)
    child.kill()
    child.wait()
    for name in ("scene.tif", "mask.tif", "uncertainty.tif"):
        (partial / name).write_bytes(whole.read_bytes()[:20])
    assert start(source, target, "resume", "none").wait() == 0
    assert outputs(target) == outputs(whole)

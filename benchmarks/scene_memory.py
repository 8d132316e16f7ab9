"""Peak memory and speed of a whole scene through `restore_scene`, with a model that returns what it is given.

`python benchmarks/scene_memory.py` makes scenes of 16 and 100 megapixels (4 bands, uint16), restores each in a process
of its own, and prints peak resident memory, time and megapixels a second, beside the time of GDAL's copy. `--tile`,
`--overlap` as in `unclouded remove`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SIDES = (4000, 10000)
BANDS = 4
STRIP = 500


class Identity:
    """A restorer that costs nothing, so that what is measured is the scene's way through."""

    def __init__(self) -> None:
        from unclouded.scenes.bands import BandSet

        self.bands = BandSet.display("red", "green", "blue", "nir")

    def restore(self, y: Any, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=y)


def make_scene(path: Path, side: int) -> None:
    """Smooth noise in tiled deflate, row of blocks by row of blocks."""
    import rasterio
    from rasterio.transform import Affine
    from rasterio.windows import Window

    profile = {"driver": "GTiff", "count": BANDS, "height": side, "width": side, "dtype": "uint16", "crs": "EPSG:32633"}
    grid = {"transform": Affine(10, 0, 5e5, 0, -10, 4.6e6), "tiled": True, "compress": "deflate"}
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile, **grid) as file:
        for row in range(0, side, STRIP):
            n = min(STRIP, side - row)
            coarse = rng.integers(300, 6000, (BANDS, n // 20 + 1, side // 20 + 1))
            strip = coarse.repeat(20, axis=1).repeat(20, axis=2)[:, :n, :side]
            file.write((strip + rng.integers(0, 64, strip.shape)).astype("uint16"), window=Window(0, row, side, n))


def peak_mb() -> float:
    """Peak resident memory of this process alone (Linux), unlike ru_maxrss, which a child inherits."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure(source: Path, target: Path, tile: int, overlap: int) -> None:
    from unclouded.restore_scene import restore_scene

    started = time.perf_counter()
    before = peak_mb()
    report = restore_scene(source, target, model=Identity(), tile=tile, overlap=overlap)
    seconds = time.perf_counter() - started
    peak = peak_mb()
    megapixels = report.scene["height"] * report.scene["width"] / 1e6
    copying = copy_seconds(source, target.with_name("copy.tif"))
    print(
        f"{megapixels:6.0f} MPix × {BANDS} uint16   peak {peak:6.0f} MB (imports {before:.0f} MB)   "
        f"{seconds:6.1f} s   {megapixels / seconds:5.1f} MPix/s   {seconds / copying:.2f} × GDAL's copy"
    )


def copy_seconds(source: Path, target: Path) -> float:
    """What GDAL needs to read the scene and write it again, in the same blocks and compressed alike."""
    import rasterio.shutil

    started = time.perf_counter()
    rasterio.shutil.copy(source, target, driver="GTiff", tiled=True, compress="deflate")
    return time.perf_counter() - started


def same_pixels(a: Path, b: Path) -> bool:
    import rasterio

    with rasterio.open(a) as first, rasterio.open(b) as second:
        return all(
            np.array_equal(first.read(window=window), second.read(window=window))
            for _, window in first.block_windows(1)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure, args.tile, args.overlap)
        return
    with tempfile.TemporaryDirectory() as folder:
        for side in args.sides:
            source, target = Path(folder, f"{side}.tif"), Path(folder, f"{side}_out.tif")
            make_scene(source, side)
            options = ["--tile", str(args.tile), "--overlap", str(args.overlap)]
            subprocess.run([sys.executable, __file__, "--measure", source, target, *options], check=True)
            if not same_pixels(source, target):
                sys.exit("The identity model changed pixels.")


if __name__ == "__main__":
    main()

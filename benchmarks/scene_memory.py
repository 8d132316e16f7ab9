"""Peak memory and speed of a whole scene through `restore_scene`, with a model that returns what it is given.

`python benchmarks/scene_memory.py` makes scenes of 16 and 100 megapixels (4 bands, uint16), restores each in a process
of its own, and prints peak resident memory, time and megapixels a second, beside GDAL's copy with as many threads, by
the clock and in processor time. `--tile`, `--overlap` as in `unclouded remove`; with `--clear` the
mask marks nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rasterio.transform import Affine

from measuring import Seconds, timed

SIDES = (4000, 10000)
BANDS = 4
STRIP = 500
GRID = {"transform": Affine(10, 0, 5e5, 0, -10, 4.6e6), "tiled": True, "compress": "deflate"}


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
    from rasterio.windows import Window

    profile = {"driver": "GTiff", "count": BANDS, "height": side, "width": side, "dtype": "uint16", "crs": "EPSG:32633"}
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile, **GRID) as file:
        for row in range(0, side, STRIP):
            n = min(STRIP, side - row)
            coarse = rng.integers(300, 6000, (BANDS, n // 20 + 1, side // 20 + 1))
            strip = coarse.repeat(20, axis=1).repeat(20, axis=2)[:, :n, :side]
            file.write((strip + rng.integers(0, 64, strip.shape)).astype("uint16"), window=Window(0, row, side, n))


def peak_mb() -> float:
    """Peak resident memory of this process alone (Linux), unlike ru_maxrss, which a child inherits."""
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def write_clear(path: Path, side: int) -> Path:
    """A mask that marks nothing."""
    import rasterio

    profile = {"driver": "GTiff", "count": 1, "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **profile, **GRID) as file:
        for row in range(0, side, STRIP):
            file.write(
                np.zeros((1, min(STRIP, side - row), side), np.uint8), window=((row, min(row + STRIP, side)), (0, side))
            )
    return path


def measure(source: Path, target: Path, side: int, options: dict[str, Any]) -> None:
    from unclouded.whole_scene import restore_scene

    before = peak_mb()
    taken = timed(lambda: restore_scene(source, target, model=Identity(), **options))
    peak, megapixels = peak_mb(), side**2 / 1e6
    copying = copy_seconds(source, target.with_name("copy.tif"))
    print(
        f"{megapixels:6.0f} MPix × {BANDS} uint16   peak {peak:6.0f} MB (imports {before:.0f} MB)   "
        f"{taken.clock:6.1f} s   {megapixels / taken.clock:5.1f} MPix/s   {taken.clock / copying.clock:.2f} × "
        f"GDAL's copy, {taken.processors / copying.processors:.2f} in processor time ({copying.processors:.1f} s)"
    )


def copy_seconds(source: Path, target: Path) -> Seconds:
    """What GDAL needs to read the scene and write it again, in the same blocks, compressed alike, with all threads."""
    import rasterio
    import rasterio.shutil

    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        return timed(lambda: rasterio.shutil.copy(source, target, driver="GTiff", tiled=True, compress="deflate"))


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
    parser.add_argument("--clear", action="store_true")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        source, target = args.measure
        mask = source.with_name("mask.tif") if args.clear else None
        measure(source, target, args.sides[0], {"tile": args.tile, "overlap": args.overlap, "mask": mask})
        return
    with tempfile.TemporaryDirectory() as folder:
        for side in args.sides:
            source, target = Path(folder, f"{side}.tif"), Path(folder, f"{side}_out.tif")
            make_scene(source, side)
            options = ["--tile", str(args.tile), "--overlap", str(args.overlap), "--sides", str(side)]
            if args.clear:
                write_clear(Path(folder, "mask.tif"), side)
                options.append("--clear")
            subprocess.run([sys.executable, __file__, "--measure", source, target, *options], check=True)
            if not same_pixels(source, target):
                sys.exit("The identity model changed pixels.")


if __name__ == "__main__":
    main()

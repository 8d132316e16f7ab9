"""Whole scenes: seconds per megapixel at 1, 4 and 16 MPix, and the cost of scenes cloudy in part or not at all.

    python benchmarks/scenes.py [--model base] [--rounds 3]

Sizes alternate, so that each is compared with the middle one of its own round. A copy is what GDAL needs to read the
same file and write it again, compressed alike.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.transform import Affine

from measuring import alternate, compared, shown, spread, with_peak
from tile import untrained
from unclouded.restore import Restorer, load
from unclouded.whole_scene import restore_scene

SIDES = (1024, 1984, 4096)  # 2, 4 and 9 tiles of about 512 a side
CLOUDY_SIDE = 1984
COVERS = {"clear": 0.0, "10 % cloudy": 0.1, "cloudy": 1.0}


def write(path: Path, pixels: np.ndarray) -> Path:
    """[bands, H, W] uint8 as a tiled, compressed GeoTIFF."""
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype="uint8", crs="EPSG:32633",
        transform=Affine(10, 0, 5e5, 0, -10, 4.6e6), tiled=True, blockxsize=256, blockysize=256, compress="deflate",
        photometric="RGB" if bands == 3 else "MINISBLACK",
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def picture(bands: int, side: int) -> np.ndarray:
    """Fields of 20 pixels with a little noise: compresses about as a satellite image does."""
    rng = np.random.default_rng(0)
    fields = rng.integers(30, 220, (bands, side // 20 + 1, side // 20 + 1)).repeat(20, 1).repeat(20, 2)
    return (fields[:, :side, :side] + rng.integers(0, 16, (bands, side, side))).astype(np.uint8)


def disc(side: int, share: float) -> np.ndarray:
    """A mask [1, H, W] with one round cloud of this share of the pixels."""
    rows, cols = np.mgrid[:side, :side] - side / 2
    everywhere = np.full((side, side), share >= 1)
    return (everywhere | (rows**2 + cols**2 < share / np.pi * side**2)).astype(np.uint8)[None]


def per_megapixel(restorer: Restorer, folder: Path, rounds: int) -> dict[str, Any]:
    """What a megapixel of each size takes, alone and over what one of the middle size takes in the same round."""
    sources = {side: write(folder / f"{side}.tif", picture(restorer.model.bands, side)) for side in SIDES}
    peaks: dict[int, list[float]] = {side: [] for side in SIDES}

    def restore(side: int) -> None:
        _, peak = with_peak(lambda: run(restorer, sources[side], folder))
        peaks[side] += [] if peak is None else [peak]

    run(restorer, sources[SIDES[0]], folder)  # warms up
    taken = alternate({str(side): partial(restore, side) for side in SIDES}, rounds)
    per = {side: [s.of(side**2 / 1e6) for s in taken[str(side)]] for side in SIDES}
    found = {}
    for side in SIDES:
        of_middle = compared(per[side], per[SIDES[1]])
        found[f"{side**2 / 1e6:.1f} MPix"] = {
            "seconds": spread([s.clock for s in per[side]]),
            "processor_seconds": spread([s.processors for s in per[side]]),
            "of_middle": {"clock": of_middle["ratio"], "processors": of_middle["processor_ratio"]},
            "peak_mb": max(peaks[side], default=None),
        }
    return found


def only_where_cloudy(restorer: Restorer, folder: Path, rounds: int) -> dict[str, Any]:
    """Ratios of one round: to the copy of the file, and to the cloudy scene."""
    source = write(folder / "scene.tif", picture(restorer.model.bands, CLOUDY_SIDE))
    masks = {name: write(folder / f"mask{i}.tif", disc(CLOUDY_SIDE, share)) for i, (name, share) in
             enumerate(COVERS.items())}  # fmt: skip
    runs: dict[str, Any] = {"copy": lambda: copy(source, folder / "copy.tif")}
    runs |= {name: lambda m=mask: run(restorer, source, folder, mask=m) for name, mask in masks.items()}
    runs["clear"]()
    taken = alternate(runs, rounds)

    def ratios(name: str, to: str) -> dict[str, Any]:
        ratio = compared(taken[name], taken[to])  # how many times as fast `to` is
        return {"clock": ratio["ratio"], "processors": ratio["processor_ratio"]}

    return {
        "side": CLOUDY_SIDE,
        "seconds": {name: spread([s.clock for s in seconds]) for name, seconds in taken.items()},
        "clear_to_copy": ratios("clear", "copy"),
        "tenth_to_cloudy": ratios("10 % cloudy", "cloudy"),
    }


def copy(source: Path, target: Path) -> None:
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"):
        rasterio.shutil.copy(source, target, driver="GTiff", tiled="yes", blockxsize=256, blockysize=256,
                             compress="deflate")  # fmt: skip


def run(restorer: Restorer, source: Path, folder: Path, **options: Any) -> None:
    restore_scene(source, folder / "out.tif", model=restorer, overwrite=True, **options)


def measure(restorer: Restorer, rounds: int = 3) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"size": per_megapixel(restorer, folder, rounds), "cloud": only_where_cloudy(restorer, folder, rounds)}


def table(result: dict[str, Any]) -> str:
    size, cloud = result["size"], result["cloud"]
    lines = ["scenes, balanced; min median max"]
    for name, row in size.items():
        peak = "" if row["peak_mb"] is None else f", peak + {row['peak_mb']:.0f} MB"
        clock, processors = (shown(row["of_middle"][by]) for by in ("clock", "processors"))
        lines.append(
            f"  {name:>9}: {shown(row['seconds'])} s / MPix, {shown(row['processor_seconds'])} in processor time; "
            f"of the middle size's {clock}, {processors} in processor time{peak}"
        )
    for what, key in (("clear scene", "clear_to_copy"), ("10 % cloudy one", "tenth_to_cloudy")):
        other = "its copy" if "copy" in key else "a cloudy one"
        lines.append(
            f"  a {what} takes {shown(cloud[key]['clock'])} of {other}, "
            f"{shown(cloud[key]['processors'])} in processor time"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a shipped model's name or a file; untrained weights if not given")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    result = measure(load(options.model) if options.model else untrained(), options.rounds)
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Whole images against the tiles that they go through: quality, under cloud and beside it, and time.

    unclouded data simulate runs/large_landscapes --landscapes 12 --size 1024 --seed 99
    unclouded data simulate runs/large_half_metre --clear runs/held_out/half_metre_strips --per-image 8 --seed 5 \
        --bands red,green,blue --gsd 0.5
    python benchmarks/tiles.py --model base --data runs/large_landscapes --tiles 256 512 768 --margins 0 16 --scales 1 3

Tiles are even ones of about that many pixels; `exact` before the number asks for exactly so many, as --tile does.
"""

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unclouded.datasets.images import read_image
from unclouded.datasets.pairs import Pair, read_pairs
from unclouded.evaluation.evaluate import CLOUD_THRESHOLD
from unclouded.evaluation.metrics import psnr_uint8, ssim_luma
from unclouded.restore import Restorer, load
from unclouded.whole_scene import restore_scene


class Found(NamedTuple):
    psnr: float
    ssim: float
    cloudy_psnr: float
    clear_psnr: float
    seconds: float


def measure(restorer: Restorer, pair: Pair, tile: str, margin: int, scales: int, folder: Path) -> Found:
    """One 8-bit pair, restored as `unclouded remove` does it."""
    cloudy, clear = pair.read_cloudy(), pair.read_clear()
    bands = tuple(range(1, len(restorer.bands) + 1))
    how = {"tile": int(tile.removeprefix("exact"))} if tile.startswith("exact") else {}
    sampling = {"margin": margin, "scales": scales, "tile": how.get("tile") or int(tile)}
    target = folder / f"restored{pair.cloudy.suffix}"
    started = time.perf_counter()
    restore_scene(pair.cloudy, target, model=restorer, bands=bands, sampling=sampling, overwrite=True, **how)
    seconds = time.perf_counter() - started
    restored, clear = (image[: len(bands)].astype(np.uint8) for image in (read_image(target), clear))
    mask = (np.abs(cloudy[: len(bands)].astype(float) - clear) > 255 * CLOUD_THRESHOLD).any(axis=0)
    parts = [psnr_uint8(restored, clear, part) if part.any() else np.nan for part in (mask, ~mask)]
    return Found(psnr_uint8(restored, clear), ssim_luma(restored, clear), *parts, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--data", type=Path, required=True, help="8-bit pairs")
    parser.add_argument("--tiles", nargs="+", default=["exact256", "512"])
    parser.add_argument("--margins", nargs="+", type=int, default=[16])
    parser.add_argument("--scales", nargs="+", type=int, default=[3])
    options = parser.parse_args()
    restorer, pairs = load(options.model), read_pairs(options.data)
    settings = list(product(options.tiles, options.margins, options.scales))
    found: dict[tuple[str, int, int], list[Found]] = {setting: [] for setting in settings}
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs:  # all settings of one image after another, so that other work meets them alike
            for setting in settings:
                found[setting].append(measure(restorer, pair, *setting, Path(folder)))
    print(f"{options.model} on {len(pairs)} images of {options.data}")
    print("| tile | margin | scales | PSNR | SSIM | under cloud | beside it | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for (tile, margin, scales), rows in found.items():
        mean = Found(*np.nanmean(rows, axis=0))
        print(
            f"| {tile} | {margin} | {scales} | {mean.psnr:.2f} | {mean.ssim:.3f} | {mean.cloudy_psnr:.2f} "
            f"| {mean.clear_psnr:.2f} | {mean.seconds:.2f} |"
        )


if __name__ == "__main__":
    main()

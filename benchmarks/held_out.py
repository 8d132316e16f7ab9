"""Simulated clouds over what the shipped models never saw: strips of open scenes kept apart, and new landscapes.

    python benchmarks/held_out.py --data ../shared/data --out runs/held_out

Writes the pair folders half_metre (RGB, 0.5 m, Nepal; CC-BY 4.0) and rgbn (R, G, B, NIR, 1 m; public domain) from the
lowest quarter of each scene, landscapes (R, G, B, NIR, generated), and sentinel2: real clouds, the 18 different
quarters of the SEN12MS-CR pairs of sen12mscr-val (R, G, B, NIR, 10 m; CC-BY 4.0). They hold images of others: leave
them out of the repository.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from unclouded.datasets.images import write_tiff
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.simulated import SimulationOptions, simulate_pairs
from unclouded.scenes.bands import TCI_REFLECTANCE

RGBN = ("red", "green", "blue", "nir")
SCENES = {
    "half_metre": ["banepa_0.5m_rgb.tif"],
    "rgbn": ["naip_1m_rgbn.tif"],
}
WIDTHS = {"banepa_0.5m_rgb.tif": 1800}  # right of that it has a hole without data, white and not declared as nodata
SEED = 2024
S2_BANDS = [4, 3, 2, 8]  # red, green, blue, near infrared of 13


def lowest_quarter(scene: Path, target: Path) -> None:
    """The rows that training leaves out (`rows` of the recipes' sources end at 0.75)."""
    with rasterio.open(scene) as file:
        first = round(0.75 * file.height)
        window = Window(0, first, WIDTHS.get(scene.name, file.width), file.height - first)
        profile = file.profile | {
            "width": window.width,
            "height": window.height,
            "transform": file.window_transform(window),
            "alpha": "unspecified",  # the fourth of four bands is near infrared
        }
        with rasterio.open(target, "w", **profile) as strip:
            strip.write(file.read(window=window))


def sentinel2_pairs(data: Path, out: Path, step: int = 128) -> Path:
    """Real pairs as 8-bit pictures of 128×128 pixels, every `step` pixels, shown as Sentinel-2's true-colour images
    are; `out`. Neighbouring patches overlap, and no window is written twice."""
    seen, starts = set(), range(0, 129, step)
    for pair in read_pairs(data / "sen12mscr", "sen12mscr-val", "sen12ms-cr"):
        cloudy, clear = _displayed(pair.read_cloudy()), _displayed(pair.read_clear())
        for n, (row, col) in enumerate((r, c) for r in starts for c in starts):
            windows = [image[:, row : row + 128, col : col + 128] for image in (cloudy, clear)]
            if (content := b"".join(window.tobytes() for window in windows)) in seen:
                continue
            seen.add(content)
            for folder, window in zip(("cloud", "label"), windows, strict=True):
                (out / folder).mkdir(parents=True, exist_ok=True)
                write_tiff(out / folder / f"{pair.stem}_{n}.tif", window, RGBN, transform=Affine.scale(10, -10))
    return out


def _displayed(dn: NDArray[np.generic]) -> NDArray[np.uint8]:
    reflectance = dn[[band - 1 for band in S2_BANDS]] / 10000
    return np.asarray(np.rint(255 * np.clip(reflectance / TCI_REFLECTANCE, 0, 1)), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=32, help="pairs in each folder")
    options = parser.parse_args()
    for name, scenes in SCENES.items():
        strips = options.out / f"{name}_strips"
        strips.mkdir(parents=True, exist_ok=True)
        for scene in scenes:
            lowest_quarter(options.data / "scenes" / scene, strips / scene)
        clouds = SimulationOptions(size=256, per_image=options.pairs // len(scenes), gsd=0.5, seed=SEED)
        for stem, _ in simulate_pairs(options.out / name, clear=strips, options=clouds):
            print(name, stem)
    clouds = SimulationOptions(bands=RGBN, seed=SEED)
    for stem, _ in simulate_pairs(options.out / "landscapes", landscapes=options.pairs, options=clouds):
        print("landscapes", stem)
    print(sentinel2_pairs(options.data, options.out / "sentinel2"))


if __name__ == "__main__":
    main()

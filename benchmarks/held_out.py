"""Simulated clouds over what the shipped models never saw: strips of open scenes kept apart, and new landscapes.

    python benchmarks/held_out.py --data ../shared/data --out runs/held_out

Writes the pair folders half_metre (RGB, 0.5 m, Nepal; CC-BY 4.0) and rgbn (R, G, B, NIR, 1 m; public domain) from the
lowest quarter of each scene, whose rest is trained on, unseen_place (RGB, 0.5 m, Atlanta; CC-BY-SA 4.0) and, for models
with near infrared, unseen_rgbn (R, G, B, NIR, 0.5 m, Rotterdam; CC-BY-SA 4.0) from all of a scene, landscapes (R, G, B,
NIR, generated), and sentinel2: real clouds, the 18 different quarters of the SEN12MS-CR pairs of sen12mscr-val (R, G,
B, NIR, 10 m; CC-BY 4.0). They hold images of others: leave them out of the repository.
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
from unclouded.datasets.preparing.pansharpen import open_sharpened
from unclouded.datasets.simulated import SimulationOptions, simulate_pairs
from unclouded.scenes.bands import TCI_REFLECTANCE

RGBN = ("red", "green", "blue", "nir")
SCENES = {  # pair folder -> its scene, and where in it the rows begin that training leaves out
    "half_metre": ("banepa_0.5m_rgb.tif", 0.75),
    "unseen_place": ("atlanta_spacenet4_0.5m_rgbn.tif", 0.0),
    "rgbn": ("naip_1m_rgbn.tif", 0.75),
}
WIDTHS = {"banepa_0.5m_rgb.tif": 1800}  # right of that it has a hole without data, white and not declared as nodata
BANDS = {"atlanta_spacenet4_0.5m_rgbn.tif": 3}  # the fourth is no near infrared, but 255 everywhere
SEED = 2024
S2_BANDS = [4, 3, 2, 8]  # red, green, blue, near infrared of 13


def lowest_rows(scene: Path, target: Path, first_share: float) -> None:
    """The rows that training leaves out (`rows` of the recipes' sources end there)."""
    with rasterio.open(scene) as file:
        first = round(first_share * file.height)
        window = Window(0, first, WIDTHS.get(scene.name, file.width), file.height - first)
        bands = BANDS.get(scene.name, file.count)
        profile = file.profile | {
            "count": bands,
            "width": window.width,
            "height": window.height,
            "transform": file.window_transform(window),
            "alpha": "unspecified",  # the fourth of four bands is near infrared
        }
        with rasterio.open(target, "w", **profile) as strip:
            strip.write(file.read(list(range(1, bands + 1)), window=window))


def sharpened(scenes: Path, target: Path) -> None:
    """SpaceNet 6 at 0.5 m as an 8-bit picture, each band between two percentiles; `rgbn` never saw it, `base` did."""
    with open_sharpened(scenes / "spacenet6_ms_1m.tif", scenes / "spacenet6_pan_0.5m.tif") as scene:
        dn = scene.read([3, 2, 1, 4])  # of blue, green, red, near infrared
    low, high = np.percentile(dn, (2, 98), axis=(1, 2), keepdims=True)
    shown = np.rint(255 * np.clip((dn - low) / (high - low), 0, 1)).astype(np.uint8)
    write_tiff(target, shown, RGBN, transform=Affine.scale(0.5, -0.5))


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
    clouds = SimulationOptions(size=256, per_image=options.pairs, gsd=0.5, seed=SEED)
    for name, (scene, first) in {**SCENES, "unseen_rgbn": ("spacenet6.tif", 0.0)}.items():
        strips = options.out / f"{name}_strips"
        strips.mkdir(parents=True, exist_ok=True)
        if name in SCENES:
            lowest_rows(options.data / "scenes" / scene, strips / scene, first)
        else:
            sharpened(options.data / "scenes", strips / scene)
        for stem, _ in simulate_pairs(options.out / name, clear=strips, options=clouds):
            print(name, stem)
    clouds = SimulationOptions(bands=RGBN, seed=SEED)
    for stem, _ in simulate_pairs(options.out / "landscapes", landscapes=options.pairs, options=clouds):
        print("landscapes", stem)
    print(sentinel2_pairs(options.data, options.out / "sentinel2"))


if __name__ == "__main__":
    main()

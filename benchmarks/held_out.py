"""Simulated clouds over what the shipped models never saw: strips of open scenes kept apart, and new landscapes.

    python benchmarks/held_out.py --data ../shared/data --out runs/held_out

Writes the pair folders half_metre (RGB, 0.5 m, Nepal; CC-BY 4.0) and rgbn (R, G, B, NIR, 0.5 and 1 m; CC-BY-SA 4.0 and
public domain) from the lowest quarter of each scene, and landscapes (R, G, B, NIR, generated). They hold images of
others: leave them out of the repository.
"""

import argparse
from pathlib import Path

import rasterio
from rasterio.windows import Window

from unclouded.datasets.simulated import SimulationOptions, simulate_pairs

RGBN = ("red", "green", "blue", "nir")
SCENES = {
    "half_metre": ["banepa_0.5m_rgb.tif"],
    "rgbn": ["atlanta_spacenet4_0.5m_rgbn.tif", "naip_1m_rgbn.tif"],
}
WIDTHS = {"banepa_0.5m_rgb.tif": 1800}  # right of that it has a hole without data, white and not declared as nodata
SEED = 2024


def lowest_quarter(scene: Path, target: Path) -> None:
    """The rows that training leaves out (`rows` of the recipes' sources end at 0.75)."""
    with rasterio.open(scene) as file:
        first = round(0.75 * file.height)
        window = Window(0, first, WIDTHS.get(scene.name, file.width), file.height - first)
        profile = file.profile | {
            "width": window.width,
            "height": window.height,
            "transform": file.window_transform(window),
        }
        with rasterio.open(target, "w", **profile) as strip:
            strip.write(file.read(window=window))


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


if __name__ == "__main__":
    main()

"""Small generated files in the layout of each data set, so that its reader can be tried without the download."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

from unclouded.datasets import catalog
from unclouded.scenes.simulate import simulate_clouds

Array = NDArray[np.float32]
Sample = tuple[int, list[Array], Array]  # number, cloudy frames, clear; [C, H, W] in [0, 1]


def generate(name: str, root: Path, pairs: int = 4, size: int = 32, seed: int = 0) -> Path:
    """Write `pairs` pairs (a third of them into test parts) of the data set's bands and dtype below `root`."""
    entry = catalog.get(name)
    _WRITERS[name](entry, root, list(_samples(entry, pairs, size, seed)))
    return root


def _samples(entry: catalog.DataSet, count: int, size: int, seed: int) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    frames = min(entry.frames, 3)
    for number in range(1, count + 1):
        fields = rng.random((len(entry.bands), 5, 5)).repeat(-(-size // 5), axis=1).repeat(-(-size // 5), axis=2)
        noise = rng.random((len(entry.bands), size, size))
        clear = (0.05 + 0.1 * fields[:, :size, :size] + 0.02 * noise).astype(np.float32)
        visible = ("red", "green", "blue", "nir")[: min(len(clear), 4)]
        cloudy = []
        for _ in range(frames):
            frame = clear.copy()
            simulated = simulate_clouds(clear[: len(visible)], rng, bands=visible, gsd=10.0, coverage=0.6)
            frame[: len(visible)] = simulated.cloudy
            cloudy.append(frame)
        yield number, cloudy, clear


def _part(number: int) -> str:
    return "test" if number % 3 == 0 else "train"


def _write(path: Path, image: Array, dtype: str = "uint8") -> None:
    """One image: PNG or JPEG for pictures, GeoTIFF on a 10 m UTM grid for .tif."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = {"uint8": 255, "uint16": 10_000}.get(dtype, 1)
    pixels = np.rint(image * scale).astype(dtype) if scale > 1 else image.astype(dtype)
    if path.suffix != ".tif":
        Image.fromarray(pixels.transpose(1, 2, 0).squeeze()).save(path, quality=95)
        return
    bands, height, width = pixels.shape
    grid = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with rasterio.open(path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=dtype, **grid) as file:
        file.write(pixels)


def _plain(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    for number, frames, clear in samples:
        _write(root / "cloud" / f"{number}.png", frames[0])
        _write(root / "label" / f"{number}.png", clear)


def _tcloud(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    for number, frames, clear in samples:
        _write(root / _part(number) / "cloud" / f"{number}.png", frames[0])
        _write(root / _part(number) / "reference" / f"{number}.png", clear)


def _cuhk(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    top = entry.name.upper()
    for number, frames, clear in samples:
        for kind, image in (("cloud", frames[0]), ("label", clear)):
            _write(root / top / _part(number) / kind / f"{number}.png", image[:3])
            grey = image[3:].repeat(3, axis=0)  # as published: grey stored as RGB
            _write(root / "nir" / top / _part(number) / kind / f"{number}.png", grey)


def _whus2(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    for number, frames, clear in samples:
        for kind, image in (("cloud", frames[0]), ("clear", clear)):
            _write(root / _part(number) / f"{kind}DNclips" / "10m" / "R051_T31UFQ" / f"{number}.tif", image, "uint16")


def _sen12(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    for number, frames, clear in samples:
        roi = 31 if _part(number) == "test" else 1
        radar = -25 + 20 * clear[:2]
        images = (("s2_cloudy", frames[0], "uint16"), ("s2", clear, "uint16"), ("s1", radar, "float32"))
        for kind, image, dtype in images:
            name = f"ROIs1158_spring_{kind}_{roi}_p{number}.tif"
            _write(root / f"ROIs1158_spring_{kind}" / f"{kind}_{roi}" / name, image, dtype)


def _sen12_ts(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    for number, frames, clear in samples:
        for date, image in enumerate([*frames, clear]):
            name = f"ROIs2017_146_ImgNo_{date}_2018-0{date + 1}-06_patch_{number}.tif"
            _write(root / "ROIs2017" / "146" / "S2" / str(date) / f"s2_{name}", image, "uint16")
            _write(root / "ROIs2017" / "146" / "S1" / str(date) / f"s1_{name}", -25 + 20 * clear[:2], "float32")


def _mtc_old(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    for number, frames, clear in samples:
        stem = f"{'12TUR' if number == 1 else '33ABC'}_{number}000"
        _write(root / "multipleImage" / "clear" / f"{stem}.jpg", clear)
        for i, frame in enumerate(frames):
            _write(root / "multipleImage" / "cloudy" / f"{stem}_{i}.jpg", frame)
            _write(root / "multipleImage" / "cloudy" / f"{stem}_{i}_ir.jpg", frame[:1])


def _mtc_new(entry: catalog.DataSet, root: Path, samples: list[Sample]) -> None:
    lists: dict[str, set[str]] = {"train": set(), "test": set()}
    for number, frames, clear in samples:
        tile = "T12TUR_R027" if _part(number) == "test" else "T15UVU_R012"
        lists[_part(number)].add(tile)
        _write(root / "Sen2_MTC" / tile / "cloudless" / f"{tile}_{number}.tif", clear, "uint16")
        for i, frame in enumerate(frames):
            _write(root / "Sen2_MTC" / tile / "cloud" / f"{tile}_{number}_{i}.tif", frame, "uint16")
    for part, tiles in lists.items():
        (root / "Sen2_MTC" / f"{part}.txt").write_text("".join(f"{tile}\n" for tile in sorted(tiles)), encoding="utf-8")


_WRITERS: dict[str, Callable[[catalog.DataSet, Path, list[Sample]], None]] = {
    "rice1": _plain, "rice2": _plain, "whu-cloud": _plain, "t-cloud": _tcloud, "whus2-cr": _whus2,
    "sen12ms-cr": _sen12, "sen12ms-cr-ts": _sen12_ts, "cuhk-cr1": _cuhk, "cuhk-cr2": _cuhk,
    "sen2-mtc-old": _mtc_old, "sen2-mtc-new": _mtc_new,
}  # fmt: skip

"""Damaged files and strange options: an answer or one of our own errors, never half a file under the final name."""

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from unclouded.errors import UncloudedError
from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene

CASES = 500


class Half:
    bands = BandSet.display("red", "green", "blue")

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=y / 2, w=y, spread=y)


def originals(folder: Path) -> list[bytes]:
    """Small GeoTIFFs of several layouts, and pictures."""
    rng = np.random.default_rng(0)
    files = []
    for number, (dtype, options) in enumerate(
        [
            ("uint8", {}),
            ("uint16", {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate", "nodata": 0}),
            ("int16", {"interleave": "band", "compress": "lzw"}),
            ("float32", {"nodata": float("nan")}),
        ]
    ):
        path = folder / f"original{number}.tif"
        profile = {"driver": "GTiff", "count": 3, "height": 30, "width": 40, "dtype": dtype, "crs": "EPSG:32633"}
        with rasterio.open(path, "w", **{**profile, **options}, transform=Affine(10, 0, 5e5, 0, -10, 4e6)) as file:
            file.write(rng.integers(1, 250, (3, 30, 40)).astype(dtype))
            file.update_tags(NOTE="x" * 30)
        files.append(path.read_bytes())
    return files


def mutated(raw: bytes, draw: random.Random) -> bytes:
    data = bytearray(raw)
    if draw.random() < 0.15:
        return bytes(data[: draw.randrange(len(data))])
    end = len(data) if draw.random() < 0.3 else min(len(data), 600)  # mostly the header and the directory
    for _ in range(draw.randint(1, 6)):
        data[draw.randrange(end)] = draw.choice([0, 1, 2, 127, 128, 255, draw.randrange(256)])
    return bytes(data)


def options(draw: random.Random) -> dict[str, Any]:
    strange = {
        "tile": [16, 1, 7, 300, 0, -5],
        "overlap": [0, 4, 15, 16, -1],
        "bands": [None, [1, 2, 3], [1, 1, 1], [3], [0, 1, 2], [9, 9, 9]],
        "value_range": [None, (0, 255), (255, 0), (0, 0), (float("nan"), 1), (-1e300, 1e300)],
        "reflectance": [None, (1e-4, -0.1), (0.0, 0.0), (-1e-4, 0.0), (float("inf"), 0.0)],
        "batch_size": [4, 1, 0],
        "mask": [None, "auto", "none", "missing.tif"],
        "sampling": [None, {"steps": 0}, {"samples": 2}, {"sampler": "?"}, {"seed": -1}],
        "panel_width": [2048, 20, 1],
    }
    return {name: draw.choice(values) for name, values in strange.items() if draw.random() < 0.25}


def attempt(folder: Path, raw: bytes, chosen: dict[str, Any]) -> bool:
    """Whether it went through. Anything but success and an UncloudedError is let out."""
    source, target = folder / "in.tif", folder / "out.tif"
    source.write_bytes(raw)
    target.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = ""
        try:
            restore_scene(source, target, model=Half(), **chosen)
        except UncloudedError as error:
            said = str(error)
    if said:
        assert len(said.split(". ")) >= 2, f"{said} does not say what to do"
        assert not list(folder.glob("*out*"))
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(target) as after:
            after.read()
    return True


def run(folder: Path, cases: int, seed: int) -> int:
    draw, files = random.Random(seed), originals(folder)
    through = 0
    for number in range(cases):
        raw, chosen = draw.choice(files), options(draw)
        raw = mutated(raw, draw) if draw.random() < 0.8 else raw
        try:
            through += attempt(folder, raw, chosen)
        except Exception as error:
            raise AssertionError(f"case {number} of seed {seed} with {chosen} broke") from error
    return through


def test_some_strange_files_and_options(tmp_path: Path) -> None:
    assert 5 < run(tmp_path, 60, seed=1) < 55


@pytest.mark.slow
def test_five_hundred_strange_files_and_options(tmp_path: Path) -> None:
    assert 50 < run(tmp_path, CASES, seed=2) < CASES - 50

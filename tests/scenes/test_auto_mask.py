"""The estimated mask: where it lies, and that cutting the scene into rows does not change it."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.scenes.auto_mask import HALO, THRESHOLD, auto_masked, change, opacity_from_change
from unclouded.scenes.bands import BandSet
from unclouded.scenes.compose import Cloudy, Rows
from unclouded.whole_scene import restore_scene


def rows_of(y: np.ndarray, clear: np.ndarray, cuts: Sequence[int]) -> Iterator[Rows]:
    for first, last in pairwise(cuts):
        part = y[:, first:last]
        yield Rows(first, Cloudy(part, np.ones(part.shape, bool), None, part), {"clear": clear[:, first:last]})


@pytest.mark.parametrize("cuts", [[0, 90], [0, 7, 8, 60, 90], [0, 30, 60, 90], list(range(0, 91, 5))])
def test_cuts_do_not_change_the_mask(cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    y, clear = rng.random((2, 3, 90, 40), np.float32)
    clear = y + (clear - 0.5) * (rng.random((90, 40)) < 0.004) * 3
    whole = opacity_from_change(np.abs(clear - y).max(axis=0).astype(np.float32))
    assert 0.05 < (whole > 0).mean() < 0.95
    got = np.concatenate([r.cloudy.opacity for r in auto_masked(rows_of(y, clear, cuts), 90, 0)])
    np.testing.assert_array_equal(got, whole)
    resumed = [c for c in cuts if c >= 41 - HALO]
    if resumed and resumed[0] <= 41:
        cuts = [41 - HALO, *resumed[1:]]
        got = np.concatenate([r.cloudy.opacity for r in auto_masked(rows_of(y, clear, cuts), 90, 41)])
        np.testing.assert_array_equal(got, whole[41:])


def test_noise_is_left_alone_and_a_cloud_is_marked_with_its_margin() -> None:
    changed = np.full((60, 60), THRESHOLD / 2, np.float32)
    changed[3, 57] = 0.5  # one pixel alone: 0.02 in the average
    changed[20:40, 30:50] = 0.2
    opacity = opacity_from_change(changed)
    assert (opacity[20:40, 30:50] == 1).all()
    assert (opacity[:6] == 0).all()
    assert (np.diff(opacity[22:6:-1, 40]) <= 0).all()
    quiet = opacity_from_change(np.full((30, 30), THRESHOLD * 0.9, np.float32))
    assert (quiet == 0).all()


def test_no_data_is_no_change() -> None:
    y = np.zeros((2, 4, 4), np.float32)
    valid = np.zeros((2, 4, 4), bool)
    rows = Rows(0, Cloudy(y, valid, None, y), {"clear": y + 1})
    assert (change(rows) == 0).all()


class Declouder:
    """Knows the ground: what is white becomes 0.2, the rest changes by less than the threshold."""

    bands = BandSet.display("red", "green", "blue")

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=torch.where(y > 0.9, 0.2, y + 0.02))


def test_clear_ground_keeps_its_bits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(20, 120, (3, 150, 100)).astype(np.uint8)
    pixels[:, 50:90, 30:60] = 250
    profile = {"driver": "GTiff", "count": 3, "height": 150, "width": 100, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "in.tif", "w", **profile, transform=Affine(10, 0, 5e5, 0, -10, 4e6)) as file:
        file.write(pixels)
    report = restore_scene(
        tmp_path / "in.tif", tmp_path / "out.tif", model=Declouder(), mask="auto", tile=32, overlap=8,
        mask_out=tmp_path / "m.tif",
    )  # fmt: skip
    with rasterio.open(tmp_path / "out.tif") as file, rasterio.open(tmp_path / "m.tif") as mask:
        out, made = file.read(), mask.read(1)
    assert (out[:, 50:90, 30:60] == 51).all()
    assert (made[50:90, 30:60] == 2).all()
    far = np.ones((150, 100), bool)
    far[50 - HALO : 90 + HALO, 30 - HALO : 60 + HALO] = False
    np.testing.assert_array_equal(out[:, far], pixels[:, far])
    assert (made[far] == 0).all()
    assert report.mask == "auto (from what the model changed)"
    assert report.pixels["blended"] > 0

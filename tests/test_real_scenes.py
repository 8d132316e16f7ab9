"""Real products with a model double: outside a mask every pixel keeps its bits, and the grid stays."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene

RGB, RGBN = BandSet.display("red", "green", "blue"), BandSet.display("red", "green", "blue", "nir")

SCENES = [
    ("scenes/banepa_0.5m_rgb.tif", RGB, None),
    ("scenes/atlanta_spacenet4_0.5m_rgbn.tif", RGB, None),
    ("scenes/atlanta_spacenet4_0.5m_rgbn.tif", RGBN, [1, 2, 3, 4]),
    ("scenes/naip_1m_rgbn.tif", RGBN, None),
    ("scenes/naip_1m_rgbn.tif", RGB, None),
    ("sen12mscr/s2_cloudy/*p140.tif", RGB, [4, 3, 2]),
    ("sen12mscr/s2_cloudy/*p797.tif", RGBN, [4, 3, 2, 8]),
    ("sen12mscr_ts/*patch_0.tif", RGB, [4, 3, 2]),
]


class Dark:
    def __init__(self, bands: BandSet) -> None:
        self.bands = bands

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=y * 0.5 + 0.1)


def coarse_mask(path: Path, scene: Any) -> Path:
    """A mask of 7 × 5 blocks over the scene's extent, in the scene's coordinate system: another grid."""
    left, bottom, right, top = scene.bounds
    grid = Affine((right - left) / 7, 0, left, 0, (bottom - top) / 5, top)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=5, width=7, dtype="uint8", crs=scene.crs, transform=grid
    ) as file:
        file.write((np.indices((5, 7)).sum(axis=0) % 2).astype(np.uint8)[None])
    return path


@pytest.mark.parametrize(("pattern", "model", "bands"), SCENES)
def test_outside_the_mask_nothing_changes(
    tmp_path: Path, data_dir: Path, pattern: str, model: BandSet, bands: list[int] | None
) -> None:
    source, target = sorted(data_dir.glob(pattern))[0], tmp_path / "out.tif"
    with rasterio.open(source) as before:
        mask = coarse_mask(tmp_path / "mask.tif", before)
    made_out = tmp_path / "m.tif"
    report = restore_scene(source, target, model=Dark(model), bands=bands, mask=mask, mask_out=made_out)
    with rasterio.open(source) as before, rasterio.open(target) as after, rasterio.open(made_out) as file:
        for name in ("crs", "transform", "shape", "dtypes", "nodata", "colorinterp", "descriptions"):
            assert getattr(before, name) == getattr(after, name), name
        a, b, made = before.read(), after.read(), file.read(1)
    outside = made != 2
    assert a[:, outside].tobytes() == b[:, outside].tobytes()
    for band in report.passed_through:
        np.testing.assert_array_equal(a[band - 1], b[band - 1])
    restored = [band - 1 for band in report.bands.values()]
    changed = (a[restored] != b[restored]).any(axis=0)[made == 2]
    assert changed.mean() > 0.9
    assert 0.3 < (made == 2).mean() < 0.7

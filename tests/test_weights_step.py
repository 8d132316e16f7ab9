"""`--weights-step`: the chosen step reaches the model, its W the file; another choice does not resume the run."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.errors import UncloudedError
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene


class Steps:
    """Its W is a tenth of the step that was asked for; 0.9 is the mean. Stops when told to."""

    bands = BandSet.display("red", "green", "blue")
    stop_at = 10**6

    def __init__(self) -> None:
        self.batches = 0

    def restore(
        self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None, **chosen: int
    ) -> Any:
        self.batches += 1
        if self.batches >= self.stop_at:
            raise KeyboardInterrupt
        return SimpleNamespace(clear=y, w=torch.full_like(y, chosen.get("weights_step", 9) / 10))


def scene(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 30)).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 4e6)}
    with rasterio.open(path, "w", driver="GTiff", count=3, height=64, width=30, dtype="uint8", **place) as file:
        file.write(pixels)
    return path


def run(tmp_path: Path, step: int | None, model: Steps | None = None, **options: Any) -> None:
    restore_scene(
        tmp_path / "in.tif", tmp_path / "o.tif", model=model or Steps(), sampling=Sampling(steps=4), tile=16, overlap=0,
        batch_size=1, weights_out=tmp_path / "w.tif", weights_step=step, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("step", "value"), [(None, 0.9), (2, 0.2), (4, 0.4)])
def test_the_step_reaches_the_file(tmp_path: Path, step: int | None, value: float) -> None:
    scene(tmp_path / "in.tif")
    run(tmp_path, step)
    with rasterio.open(tmp_path / "w.tif") as file:
        np.testing.assert_allclose(file.read(), value, rtol=1e-6)


def test_another_step_is_another_run(tmp_path: Path) -> None:
    scene(tmp_path / "in.tif")
    stopped = Steps()
    stopped.stop_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 2, stopped)
    with pytest.raises(UncloudedError, match=r"had --weights-step 2, and this one has 3"):
        run(tmp_path, 3, resume=True)
    run(tmp_path, 2, resume=True)
    with rasterio.open(tmp_path / "w.tif") as file:
        np.testing.assert_allclose(file.read(), 0.2, rtol=1e-6)

"""Memory limits: sizes are understood, limits are kept by smaller batches and panels, impossible ones are said."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from unclouded import scene_budget
from unclouded.diffusion.schedule import Schedule, linear
from unclouded.errors import UncloudedError, UsageError
from unclouded.sampling import Sampling
from unclouded.scene_budget import Cost, column_bytes, fit, memory, parse_size, resident, writing_bytes
from unclouded.scenes.bands import BandSet
from unclouded.scenes.pictures import ArrayScene, array_info
from unclouded.scenes.tiles import TileGrid
from unclouded.strips import Job
from unclouded.whole_scene import plan_scene, restore_scene

RGB = BandSet.display("red", "green", "blue")


class Identity:
    bands = RGB

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        time.sleep(0.002)
        return SimpleNamespace(clear=y)


def job(width: int = 20000, height: int = 300) -> Job:
    pixels = np.broadcast_to(np.uint16(9), (3, height, width))
    info = array_info("the image", "raster", pixels, (ColorInterp.undefined,) * 3)
    return Job(
        scene=ArrayScene(pixels, info), restorer=Identity(), sampling=None, bands=(1, 2, 3),
        dn_range=RGB.dn_range("uint16"), fill=np.zeros(3, np.float32), grid=TileGrid(height, width), batch_size=8,
        panel_width=width,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("512 MiB", 2**29), ("1.5g", 15 * 10**8), ("100", 100), ("64kb", 64000)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["much", "-2GB", "2PB", ""])
def test_sizes_that_are_not_understood(text: str) -> None:
    with pytest.raises(UsageError, match="2GB or 512MB"):
        parse_size(text)


def test_panels_then_batches_give_way() -> None:
    cost, whole = Cost(0.1, 50 * 10**6), job()
    base = resident() + writing_bytes(whole)
    room = 20 * 10**6  # for what the process itself takes meanwhile
    ample = base + 8 * cost.memory + 20000 * column_bytes(whole) + room
    roomy = fit(whole, cost, ample)
    assert (roomy.batch_size, roomy.panels) == (whole.batch_size, whole.panels)
    narrow = fit(whole, cost, base + 8 * cost.memory + 3000 * column_bytes(whole) + room)
    assert narrow.batch_size == 8
    assert 2500 < narrow.panel_width < 3600
    assert len(narrow.panels) > 5
    small = fit(whole, cost, base + 2 * cost.memory + 3 * 256 * column_bytes(whole) + room)
    assert small.batch_size <= 3
    assert memory(small, cost) < memory(narrow, cost) < memory(replace(whole, panel_width=10**6), cost)
    with pytest.raises(UncloudedError, match=r"is too little.*--tile"):
        fit(whole, cost, base)


def scene(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 1200)).astype(np.uint8)
    profile = {"driver": "GTiff", "count": 3, "height": 300, "width": 1200, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **profile, transform=Affine(10, 0, 5e5, 0, -10, 4.6e6)) as file:
        file.write(pixels)
    return path


def test_a_plan_writes_nothing_and_says_all(tmp_path: Path) -> None:
    source = scene(tmp_path / "in.tif")
    plan = plan_scene(source, tmp_path / "out.tif", model=Identity(), tile=64, overlap=16, preview=tmp_path / "p.png")
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]
    assert plan.tiles == 6 * 25
    assert plan.bands == {"red": 1, "green": 2, "blue": 3}
    assert plan.seconds >= 6 * 25 * 0.002
    assert plan.memory_mb > 64
    assert plan.files == {"output": str(tmp_path / "out.tif"), "preview": str(tmp_path / "p.png")}


class Sampled:
    """Counts its evaluations."""

    bands = RGB

    def __init__(self, schedule: Schedule | None) -> None:
        self.model = SimpleNamespace(schedule=schedule)
        self.evaluations = 0

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: Sampling) -> Any:
        self.evaluations += sampling.samples * (1 if self.model.schedule is None else sampling.steps)
        return SimpleNamespace(clear=y, spread=torch.zeros_like(y) if sampling.samples > 1 else None)


@pytest.mark.parametrize(
    ("steps", "samples", "uncertainty"), [(1, 1, None), (1, 3, None), (200, 1, None), (100, 3, Path("spread.tif"))]
)
@pytest.mark.parametrize("schedule", [linear(), None])
def test_a_plan_counts_evaluations_that_it_does_not_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    samples: int,
    uncertainty: Path | None,
    schedule: Schedule | None,
) -> None:
    model = Sampled(schedule)
    clock = SimpleNamespace(perf_counter=lambda: 3.0 * model.evaluations)
    monkeypatch.setattr(scene_budget, "time", clock)
    sampling = Sampling(steps=steps, samples=samples)
    options = {"model": model, "sampling": sampling, "uncertainty_out": uncertainty}
    plan = plan_scene(scene(tmp_path / "in.tif"), tmp_path / "out.tif", **options)
    assert plan.seconds == pytest.approx(3 * plan.tiles * samples * (steps if schedule else 1))
    assert model.evaluations <= 10


def test_steps_that_do_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    model = Sampled(linear())
    for work in (plan_scene, restore_scene):
        with pytest.raises(UsageError, match="5000 sampling steps do not fit"):
            work(scene(tmp_path / "in.tif"), tmp_path / "out.tif", model=model, sampling=Sampling(steps=5000))
    assert model.evaluations == 0


def test_a_limit_changes_how_but_not_what(tmp_path: Path) -> None:
    source = scene(tmp_path / "in.tif")
    restore_scene(source, tmp_path / "a.tif", model=Identity(), max_memory="64GB")
    with pytest.raises(UncloudedError, match="too little"):
        restore_scene(source, tmp_path / "b.tif", model=Identity(), max_memory="1MB")
    with rasterio.open(source) as one, rasterio.open(tmp_path / "a.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "in.tif"]

"""What is decided about a scene: the shipped model that it gets when none is named, and how its mask is called."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.enums import ColorInterp

from unclouded.errors import UsageError
from unclouded.models.card import ModelCard
from unclouded.models.registry import build_model
from unclouded.models.store import save
from unclouded.sampling import Sampling
from unclouded.scene_options import SceneOptions
from unclouded.scene_plan import batch_size, choose_model, mask_said, plan, tile_grid
from unclouded.scenes.bands import BandSet
from unclouded.scenes.pictures import ArrayScene, array_info
from unclouded.scenes.raster import SceneInfo
from unclouded.scenes.tiles import TileGrid

RGB = ("red", "green", "blue")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models for RGB (two), RGB with near infrared, and radar."""
    models = {"odd": ("vv", "vh"), "older": RGB, "base": RGB, "four": (*RGB, "nir")}
    for name, bands in models.items():
        architecture = {"bands": len(bands), "prior": "light", "prior_options": {"channels": [4, 8], "blocks": [1, 1]}}
        card = ModelCard(name=name, method="prior", architecture=architecture, bands=BandSet.display(*bands))
        save(tmp_path / f"{name}.safetensors", build_model("prior", architecture), card)
    monkeypatch.setattr("unclouded.models.store.WEIGHTS", tmp_path)


def named(*descriptions: str | None) -> SceneInfo:
    n = len(descriptions)
    info = array_info("scene", "raster", np.zeros((n, 2, 2), np.uint8), (ColorInterp.undefined,) * n)
    return replace(info, descriptions=descriptions)


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize(
    ("descriptions", "model"),
    [
        (RGB, "base"),
        (("blue", "green", "red", "nir"), "four"),
        (("B02", "B03", "B04", "B08", "B11"), "four"),
        (("vv", "vh"), "odd"),
        ((None, None, None, None), "base"),  # four bands that nobody named may be anything
        (("red",), "base"),
    ],
)
def test_the_scene_gets_the_model_for_most_of_its_named_bands(descriptions: tuple[str | None, ...], model: str) -> None:
    assert choose_model(named(*descriptions), None) == model


@pytest.mark.usefixtures("shipped")
def test_chosen_bands_get_the_model_that_takes_as_many() -> None:
    scene = named("blue", "green", "red", "nir")
    assert choose_model(scene, (3, 2, 1)) == "base"
    assert choose_model(scene, (3, 2, 1, 4)) == "four"


def test_without_shipped_models_the_default_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unclouded.models.store.WEIGHTS", tmp_path)
    assert choose_model(named(*RGB), None) == "base"  # which then says that it is not there


def test_a_mask_is_named_without_its_signature() -> None:
    job: Any = SimpleNamespace(mask=None)
    assert mask_said(job, SceneOptions(mask="https://a.org/m.tif?sig=SECRET")) == "https://a.org/m.tif"
    assert mask_said(job, SceneOptions(mask="what?.tif")) == "what?.tif"
    assert mask_said(job, SceneOptions()) == "none"


def restorer(device: str = "cpu") -> Any:
    return SimpleNamespace(device=torch.device(device), bands=BandSet.display(*RGB))


def grid(side: int, tile: int | None, sampling: Sampling | None) -> TileGrid:
    info = array_info("scene", "raster", np.zeros((3, side, side), np.uint8), (ColorInterp.undefined,) * 3)
    return tile_grid(info, sampling, tile, 64)


@pytest.mark.parametrize(
    ("side", "tile", "sampling", "tiles", "batch", "on_a_gpu"),
    [
        (1024, 256, Sampling(tile=512), 25, 4, 16),
        (1024, None, None, 25, 4, 16),
        (1024, None, Sampling(tile=512), 4, 1, 3),
        (1000, 128, None, 15**2, 4, 16),
        (2000, None, Sampling(tile=5000), 1, 1, 1),
    ],
)
def test_tiles_and_batches(
    side: int, tile: int | None, sampling: Sampling | None, tiles: int, batch: int, on_a_gpu: int
) -> None:
    found = grid(side, tile, sampling)
    assert len(found) == tiles
    assert batch_size(restorer(), found) == batch
    assert batch_size(restorer("cuda"), found) == on_a_gpu
    assert batch_size(restorer("cuda"), found, 7) == 7
    with pytest.raises(UsageError, match="--batch-size 1 or more"):
        batch_size(restorer(), found, 0)


@pytest.mark.parametrize(("tile", "at_a_time"), [(32, 2), (100, 1)])
def test_a_single_batch_has_all_threads(tile: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
    scene = ArrayScene(pixels, array_info("scene", "raster", pixels, (ColorInterp.undefined,) * 3))
    options = SceneOptions(tile=tile, overlap=0, batch_size=2)
    assert plan(scene, restorer(), options, None, None).at_a_time == at_a_time

"""What is decided about a scene: the shipped model that it gets when none is named, and how its mask is called."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rasterio.enums import ColorInterp

from unclouded.models.card import ModelCard
from unclouded.models.registry import build_model
from unclouded.models.store import save
from unclouded.scene_options import SceneOptions
from unclouded.scene_plan import choose_model, mask_said
from unclouded.scenes.bands import BandSet
from unclouded.scenes.pictures import array_info
from unclouded.scenes.raster import SceneInfo

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

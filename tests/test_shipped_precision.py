"""Precision is honest: bf16 restores as well as float32 does, with the models that ship."""

import numpy as np
import pytest
import torch

from unclouded.demo import make_scene
from unclouded.models import store
from unclouded.restore import load


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("name", store.shipped())
def test_bf16_costs_at_most_a_twentieth_of_a_decibel(name: str, device: str) -> None:
    scene = make_scene(side=256)
    restored = {}
    for precision in ("fp32", "bf16"):
        restorer = load(name, device=device, precision=precision)
        cloudy, clear = (
            torch.from_numpy(image[: restorer.model.bands].astype(np.float32) / 255)[None]
            for image in (scene.cloudy, scene.clear)
        )
        restored[precision] = restorer.restore(cloudy).clear
    psnr = {precision: -10 * (x - clear).square().mean().log10() for precision, x in restored.items()}
    assert abs(psnr["bf16"] - psnr["fp32"]) <= 0.05
    assert not torch.equal(restored["bf16"], restored["fp32"])

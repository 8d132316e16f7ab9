"""On a CUDA GPU: the same answers as on the processor, whole commands, and what only a GPU does."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scene_files import read, write_tif
from unclouded.cli import main
from unclouded.demo import make_scene
from unclouded.evaluation.complexity import measure
from unclouded.models import store
from unclouded.models.card import ModelCard
from unclouded.models.de import DE, DEConfig
from unclouded.models.registry import build_prior
from unclouded.models.unet import UNetConfig
from unclouded.restore import Restorer, load
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet
from unclouded.training.papers import PRIORS
from unclouded.whole_scene import restore_scene

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")


@pytest.fixture(autouse=True)
def _full_float32() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def cloudy(bands: int, side: int = 256) -> Tensor:
    scene = make_scene(side=side)
    return torch.from_numpy(scene.cloudy[:bands].astype(np.float32) / 255)[None]


def small() -> Restorer:
    """Of the paper's form: two U-Nets, scale and shift by the time, attention, a prior; weights at random."""
    network: dict[str, Any] = {"channels": 16, "res_blocks": 1, "multipliers": (1, 2), "attention": (2,), "heads": 2}
    config = DEConfig(
        prior="light",
        prior_options={"channels": (8, 8), "blocks": (1, 1)},
        cnp=UNetConfig(6, 3, **network),
        wa=UNetConfig(9, 3, **network, scale_shift=False),
    )
    model = DE(config)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    bands = BandSet.display("red", "green", "blue")
    card = ModelCard(name="t", method="de", architecture=config.model_dump(), bands=bands, sampling=Sampling(steps=3))
    return Restorer(model, card, device="cpu", precision="fp32")


def on_gpu(restorer: Restorer, **how: Any) -> Restorer:
    return Restorer(copy.deepcopy(restorer.model), restorer.card, "cuda", **({"precision": "fp32"} | how))


@pytest.mark.parametrize("name", store.shipped())
def test_a_shipped_model_answers_as_on_the_processor(name: str) -> None:
    here, there = (load(name, device=device, precision="fp32") for device in ("cpu", "cuda"))
    y = cloudy(here.model.bands).expand(2, -1, -1, -1)
    expected, found = (r.restore(y, [(0, 0), (64, 9)], Sampling(steps=2, start=300, samples=2)) for r in (here, there))
    for ours, theirs in zip(expected, found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm", "unipc"])
def test_every_sampler_answers_as_on_the_processor(sampler: str) -> None:
    restorer, y = small(), torch.rand(3, 3, 32, 48)
    sampling = Sampling(sampler=sampler, steps=5, self_ensemble=4, weight_tolerance=0.05)
    expected, found = (r.restore(y, sampling=sampling).clear for r in (restorer, on_gpu(restorer)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    rounded = on_gpu(restorer, precision="bf16").restore(y, sampling=sampling).clear
    assert (rounded - expected).square().mean().sqrt() < 0.02


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_answers_as_on_the_processor(name: str) -> None:
    prior, y = build_prior(name, bands=3).eval(), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = prior(y)
        found = prior.cuda().to(memory_format=torch.channels_last)(y.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_a_scene_is_restored_as_on_the_processor(tmp_path: Path) -> None:
    source = write_tif(tmp_path / "in.tif", make_scene(side=400).cloudy[:3])
    for device in ("cpu", "cuda"):
        restore_scene(source, tmp_path / f"{device}.tif", model="base", device=device, precision="fp32", tile=128,
                      overlap=32)  # fmt: skip
    difference = np.abs(read(tmp_path / "cuda.tif").astype(int) - read(tmp_path / "cpu.tif").astype(int))
    assert difference.max() <= 1
    assert difference.mean() < 0.05


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    scene = np.tile(make_scene(side=512).cloudy[:3], (1, 2, 8))  # 1024 × 4096
    source = write_tif(tmp_path / "in.tif", scene)
    options: dict[str, Any] = {"model": load("base", device="cuda", precision="fp32"), "tile": 512, "overlap": 64}
    restore_scene(source, tmp_path / "one.tif", **options, batch_size=1)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.35e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        report = restore_scene(source, tmp_path / "out.tif", **options, batch_size=64, panel_width=5000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [note for note in report.notes if note.startswith("Memory ran out: the run went on with")]
    difference = np.abs(read(tmp_path / "out.tif").astype(int) - read(tmp_path / "one.tif").astype(int))
    assert difference.max() <= 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch's own compiler
def test_compiled_it_answers_alike() -> None:
    restorer, y = small(), torch.rand(2, 3, 32, 32)
    expected, compiled = restorer.restore(y).clear, on_gpu(restorer, compile=True)
    torch.testing.assert_close(compiled.restore(y).clear, expected, rtol=1e-3, atol=1e-3)
    assert compiled.notes == []


def unclouded(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command prints, once it has ended well."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert ended.value.code in (None, 0), printed.err
    return printed.out


def test_what_trains_there_restores_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = tmp_path / "pairs", tmp_path / "run"
    unclouded(capsys, "data", "simulate", pairs, "--landscapes", 3, "--size", 64)
    short = ("steps=4", "batch_size=4", "size=32", "shrink=1", "last_size=null", "validate_every=2")
    settings = [f"stages.{stage}.{value}" for stage in ("prior", "coarse", "weights", "joint") for value in short]
    changed = [word for setting in (*settings, "validation_limit=1") for word in ("--set", setting)]
    unclouded(capsys, "train", "own", "--data", pairs, "--out", out, "--device", "cuda", "--workers", 2, *changed)
    model, scores = out / "own.safetensors", {}
    for device in ("cpu", "cuda"):
        printed = unclouded(capsys, "evaluate", "--model", model, "--data", pairs, "--device", device, "--json")
        scores[device] = json.loads(printed)["metrics"]["psnr"]["mean"]
    assert abs(scores["cpu"] - scores["cuda"]) < 0.05


def test_cost_is_measured_on_the_gpu() -> None:
    cost = measure(small().model.cuda(), Sampling(steps=2), size=(64, 64), device="cuda", repeats=1)
    assert cost.peak_memory_mb is not None
    assert cost.peak_memory_mb > 0
    assert cost.images_per_second > 0

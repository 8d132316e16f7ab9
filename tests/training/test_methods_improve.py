"""Table V's methods, DE over each of them, pure diffusion and DiffCR learn on real RICE2 pairs at small crops."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from unclouded.cli import main
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.splits import split
from unclouded.evaluation.calibration import rank_correlation
from unclouded.evaluation.evaluate import evaluate, load
from unclouded.evaluation.methods import Input, Method, Model, Prior
from unclouded.evaluation.metrics import protocol
from unclouded.restore import load as load_model
from unclouded.sampling import Sampling
from unclouded.training.data import Examples
from unclouded.training.loop import Run, train
from unclouded.training.recipes import recipe
from unclouded.training.sources import open_pool
from unclouded.training.stages import LOSSES
from unclouded.training.values import Recipe, Source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # all six trainings, on a busy core

# method -> (its size here, steps, learning rate, decay of the average)
PRIORS: dict[str, tuple[dict[str, int], int, float, float]] = {
    "spagan": ({"features": 8}, 300, 4e-3, 0.95),
    "amgan": ({"features": 8, "blocks": 1, "passes": 2}, 500, 6e-3, 0.99),
    "cvae": ({"channels": 32, "depth": 1, "heads": 2, "latent": 8}, 150, 3e-3, 0.95),
    "pix2pix": ({"features": 16, "levels": 4}, 400, 2e-3, 0.95),
    "memorynet": ({"features": 8, "unet_step": 4, "ors_step": 4, "blocks": 1}, 300, 3e-3, 0.95),
    "msda": ({"features": 8}, 100, 3e-3, 0.95),
}
STEMS = 120  # of the training list: enough to learn the mean look of clear ground
SHRINK = 4  # images are averaged over 4×4 pixels, to 64×64, so that a second holds many
SIZE = {"channels": 16, "res_blocks": 1, "multipliers": "[1, 2]", "attention": "[]", "heads": 1}
NETWORKS = {part: [f"model.{part}.{key}={value}" for key, value in SIZE.items()] for part in ("cnp", "wa")}
SAMPLING = Sampling(steps=10)


def short(name: str, *settings: str) -> Recipe:
    """The recipe on crops of 32 pixels, averaged over 4×4."""
    full = recipe(name)
    values = {"size": 32, "shrink": SHRINK, "batch_size": 8, "ema": 0.95, "decay": 0.3}
    common = [f"stages.{stage}.{key}={value}" for stage in full.stages for key, value in values.items()]
    return recipe(name, [*common, *settings, "validation_limit=1", "sampling.steps=2"])


class Lists(NamedTuple):
    """A few training pairs, and other pairs (of the validation list) to judge by; a file of stems each."""

    train: Path
    validation: Path

    def of(self, found: Recipe) -> Recipe:
        sources = [(Source(path="rice2", dataset="rice2", split=str(stems)),) for stems in self]
        return found.model_copy(update={"sources": sources[0], "validation": sources[1]})


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Lists:
    folder = tmp_path_factory.mktemp("lists")
    found = Lists(folder / "train", folder / "val")
    clean = split("rice2-train-clean")
    found.train.write_text("\n".join(clean[:: len(clean) // STEMS][:STEMS]))
    found.validation.write_text("\n".join(split("rice2-val")[::5]))
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that trained models come into."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def trained(models: Path, lists: Lists, data_dir: Path) -> Callable[[str], Path]:
    """Prior -> the model file of DE over it (prior, CNP and WA trained, not jointly); each is trained once."""

    def path_of(prior: str) -> Path:
        options, steps, lr, ema = PRIORS[prior]
        name = f"de-{prior}-rice2"
        stages = {"prior": (steps, lr), "coarse": (200, 2e-3), "weights": (80, 2e-3)}
        settings = [f"stages.{stage}.steps={n}" for stage, (n, _) in stages.items()]
        settings += [f"stages.{stage}.lr={rate}" for stage, (_, rate) in stages.items()]
        settings += [f"stages.prior.ema={ema}"]
        found = short(name, f"model.prior_options={options}", *NETWORKS["cnp"], *NETWORKS["wa"], *settings)
        out = models / prior
        if not (models / f"{name}.safetensors").exists():
            for _ in train(lists.of(found), Run(data_dir, out, ("prior", "coarse", "weights"), accelerator="cpu")):
                pass
            (out / f"{name}.safetensors").rename(models / f"{name}.safetensors")
        return models / f"{name}.safetensors"

    return path_of


def psnr(method: Method, pairs: list[Any]) -> float:
    """Mean over the pairs, averaged over 4×4 pixels, in dB."""
    scores = evaluate(method, pairs, protocol("paper"), batch_size=len(pairs), shrink=SHRINK)
    return float(np.mean([score.values["psnr"] for score in scores]))


@pytest.mark.parametrize("prior", PRIORS)
def test_each_method_helps_and_de_over_it_beats_pure_diffusion(
    prior: str, trained: Callable[[str], Path], lists: Lists, data_dir: Path
) -> None:
    """On pairs that were not trained on: prior above the cloudy input, fused sampling above the same CNP without prior
    and WA, and the mean of W falls over the steps (Fig. 9)."""
    pairs = read_pairs(data_dir / "rice2", str(lists.validation), "rice2")
    restorer = load_model(str(trained(prior)), device="cpu")
    de = Model(restorer, SAMPLING)
    methods = {
        "input": Input(restorer.bands),
        "prior": Prior(restorer),
        "DE": de,
        "diffusion": Model(restorer, SAMPLING, False),
    }
    found = {name: psnr(method, pairs) for name, method in methods.items()}
    y = torch.from_numpy(np.stack([load(pair, de, shrink=SHRINK)[0] for pair in pairs]))
    w: list[float] = []
    restorer.restore(y, sampling=SAMPLING, on_step=lambda step: w.append(float(step.w.mean())))
    print(prior, *(f"{name} {value:.2f} dB" for name, value in found.items()), "W", *(f"{mean:.2f}" for mean in w))
    assert found["prior"] > found["input"]
    assert found["DE"] > found["diffusion"]
    assert w[-1] < w[0] - 0.01  # hardly, where the prior is far better than so short a CNP
    assert rank_correlation(np.arange(len(w)), np.array(w)) < -0.8  # a WA of 80 steps wavers from step to step


def test_the_table_shows_them_side_by_side(
    trained: Callable[[str], Path], models: Path, lists: Lists, data_dir: Path, tmp_path: Path
) -> None:
    for prior in PRIORS:
        trained(prior)
    arguments = ["table5", "--models", models, "--data", f"rice2={data_dir / 'rice2'}", "--out", tmp_path]
    arguments += ["--split", f"rice2={lists.validation}", "--shrink", SHRINK, "--steps", SAMPLING.steps]
    with pytest.raises(SystemExit) as stop:
        main(["paper", *map(str, arguments)])
    assert not stop.value.code
    print((tmp_path / "table5.md").read_text())
    with (tmp_path / "table5.csv").open() as file:
        found = {row["method"]: row for row in csv.DictReader(file) if row["data"] == "rice2"}
    values = {method: float(row["psnr ours"]) for method, row in found.items()}
    assert len(values) == 9
    assert all(value > values["cloudy input"] for method, value in values.items() if method != "cloudy input")


DIFFCR = ("model.width=16", "model.encoder_blocks=[1, 1]", "model.decoder_blocks=[1, 1]")


@pytest.mark.parametrize(
    ("name", "settings"),
    [("diffusion-rice2", tuple(NETWORKS["cnp"])), ("diffcr-rice2", DIFFCR), ("diffcr-rice2-eps", DIFFCR)],
)
def test_diffusion_networks_halve_their_loss(
    name: str, settings: tuple[str, ...], lists: Lists, data_dir: Path, tmp_path: Path
) -> None:
    """On fixed crops, steps and noise of pairs that were not trained on; images need far longer training."""
    [stage] = recipe(name).stages
    found = lists.of(short(name, *settings, f"stages.{stage}.steps=100", f"stages.{stage}.lr=2e-3"))
    pool = open_pool(found.validation[0], data_dir, found.band_set)
    examples = Examples([pool], [1.0], found.stages[stage], (7,))
    y, x0 = (torch.stack(images) for images in zip(*(examples[n] for n in range(32)), strict=True))
    torch.manual_seed(found.seed)
    before = found.build()
    for _ in train(found, Run(data_dir, tmp_path, accelerator="cpu")):
        pass
    after = load_model(str(tmp_path / f"{name}.safetensors"), device="cpu").model
    losses = []
    for model in (before, after):
        with torch.no_grad():
            losses.append(float(sum(LOSSES[stage](model, y, x0, torch.Generator().manual_seed(0)).values())))
    print(f"{name}: {losses[0]:.3f} -> {losses[1]:.3f}")
    assert losses[1] < 0.5 * losses[0]

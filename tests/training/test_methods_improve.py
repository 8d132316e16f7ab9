"""Table V's methods, pure diffusion and DiffCR on real RICE2 pairs at small crops: a short training improves each."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from unclouded.datasets.splits import split
from unclouded.training.data import Examples, open_pool
from unclouded.training.loop import Run, train
from unclouded.training.recipes import recipe
from unclouded.training.stages import LOSSES
from unclouded.training.values import Recipe, Source

pytestmark = pytest.mark.slow

# method -> (its size here, steps, learning rate)
PRIORS: dict[str, tuple[dict[str, int], int, float]] = {
    "spagan": ({"features": 8}, 150, 3e-3),
    "amgan": ({"features": 8, "blocks": 1, "passes": 2}, 150, 3e-3),
    "cvae": ({"channels": 32, "depth": 1, "heads": 2, "latent": 8}, 150, 3e-3),
    "pix2pix": ({"features": 16, "levels": 4}, 400, 2e-3),
    "memorynet": ({"features": 8, "unet_step": 4, "ors_step": 4, "blocks": 1}, 300, 3e-3),
    "msda": ({"features": 8}, 60, 3e-3),
}
STEMS = 24  # of the training list: enough to learn the mean look of clear ground


def short(name: str, steps: int, lr: float, *settings: str) -> Recipe:
    """The recipe on a few pairs, at crops of 32 pixels averaged over 4×4, so that a second holds many images."""
    full = recipe(name)
    values = {"steps": steps, "size": 32, "shrink": 4, "batch_size": 8, "lr": lr, "ema": 0.95, "decay": 0.3}
    more = [f"stages.{stage}.{key}={value}" for stage in full.stages for key, value in values.items()]
    return recipe(name, [*settings, *more, "validation_limit=1", "sampling.steps=2"])


def few(found: Recipe, data: Path, tmp_path: Path) -> tuple[Recipe, tuple[torch.Tensor, torch.Tensor]]:
    """The recipe on STEMS pairs, and 32 fixed crops of other pairs (of the validation list) to judge it on."""
    lists = []
    for part, count in (("train", STEMS), ("val", 12)):
        (tmp_path / part).write_text("\n".join(split("rice2", part)[:: 529 // STEMS if part == "train" else 5][:count]))
        lists.append(Source(path="rice2", dataset="rice2", split=str(tmp_path / part)))
    changed = found.model_copy(update={"sources": (lists[0],), "validation": (lists[1],)})
    pool = open_pool(lists[1], data, found.band_set)
    examples = Examples([pool], [1.0], next(iter(changed.stages.values())), (7,))
    y, x0 = (torch.stack(images) for images in zip(*(examples[n] for n in range(32)), strict=True))
    return changed, (y, x0)


def trained(found: Recipe, data: Path, out: Path) -> tuple[Any, Any]:
    """The model before and after."""
    torch.manual_seed(found.seed)
    before, after = found.build(), found.build()
    for _ in train(found, Run(data, out, accelerator="cpu")):
        pass
    for stage in found.stages:
        for name, part in torch.load(out / f"{stage}.ckpt")["ema"].items():
            if hasattr(after, name):
                getattr(after, name).load_state_dict(part)
    return before.eval(), after.eval()


@pytest.mark.parametrize("prior", PRIORS)
def test_end_to_end_networks_come_nearer_to_the_clear_image_than_the_cloudy_one(
    prior: str, data_dir: Path, tmp_path: Path
) -> None:
    """PSNR over pairs that were not trained on, above the cloudy input's."""
    options, steps, lr = PRIORS[prior]
    found, (y, x0) = few(short(f"{prior}-rice2", steps, lr, f"model.prior_options={options}"), data_dir, tmp_path)
    _, after = trained(found, data_dir, tmp_path / "out")
    with torch.no_grad():
        x = after.reference(y)
    psnr, cloudy = (-10 * F.mse_loss(image, x0).log10() for image in (x, y))
    print(f"{prior}: {psnr:.2f} dB, cloudy input {cloudy:.2f} dB")
    assert psnr > cloudy


NETWORK = [
    f"model.cnp.{key}={value}"
    for key, value in {"channels": 16, "res_blocks": 1, "multipliers": "[1, 2]", "attention": "[]", "heads": 1}.items()
]
DIFFCR = ["model.width=16", "model.encoder_blocks=[1, 1]", "model.decoder_blocks=[1, 1]"]


@pytest.mark.parametrize(
    ("name", "settings", "steps"),
    [("diffusion-rice2", NETWORK, 100), ("diffcr-rice2", DIFFCR, 100), ("diffcr-rice2-eps", DIFFCR, 100)],
)
def test_diffusion_networks_halve_their_loss(
    name: str, settings: list[str], steps: int, data_dir: Path, tmp_path: Path
) -> None:
    """On fixed crops, steps and noise of pairs that were not trained on; images need far longer training."""
    found, (y, x0) = few(short(name, steps, 2e-3, *settings), data_dir, tmp_path)
    [stage] = found.stages
    losses = []
    for model in trained(found, data_dir, tmp_path / "out"):
        with torch.no_grad():
            losses.append(float(sum(LOSSES[stage](model, y, x0, torch.Generator().manual_seed(0)).values())))
    print(f"{name}: {losses[0]:.3f} -> {losses[1]:.3f}")
    assert losses[1] < 0.5 * losses[0]

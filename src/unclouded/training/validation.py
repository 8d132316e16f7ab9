"""What a stage can do so far, on a fixed list: PSNR, SSIM and pictures, while it trains."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from unclouded.diffusion.noise import noise_field
from unclouded.diffusion.samplers import dpm
from unclouded.diffusion.schedule import timesteps
from unclouded.evaluation.metrics import psnr_uint8, ssim_luma, to_uint8
from unclouded.models.base import RestorationModel
from unclouded.models.de import DE
from unclouded.models.padding import crop, pad_to_multiple
from unclouded.restore import restore
from unclouded.scenes.failures import make_folder, writing
from unclouded.training.data import fixed_pairs
from unclouded.training.pools import shrink
from unclouded.training.sources import open_pool
from unclouded.training.values import Recipe, StageName

COARSE_STEPS = 10
PICTURES = 4  # pairs shown of each list


class Validation:
    """Scores a model under training on the recipe's validation lists; calling it gives {"rice2-val/psnr": …, …}."""

    def __init__(self, recipe: Recipe, root: Path, stage: StageName) -> None:
        self.recipe, self.stage = recipe, stage
        self.factor = recipe.stages[stage].shrink
        self.lists = {}
        for source in recipe.validation:
            pool = open_pool(source, root, recipe.band_set, recipe.frames, recipe.sar)
            pairs = fixed_pairs(pool, recipe.validation_limit, side=256)
            self.lists[source.split or source.path] = [
                (shrink(y, self.factor), shrink(x0, self.factor)) for y, x0 in pairs
            ]

    def __call__(self, model: RestorationModel, device: torch.device, picture: Path) -> dict[str, float]:
        scores: dict[str, float] = {}
        rows = []
        for name, pairs in self.lists.items():
            values = []
            for number, (cloudy, clear) in enumerate(pairs):
                y = torch.from_numpy(np.ascontiguousarray(cloudy))[None].to(device)
                with torch.inference_mode():
                    restored = to_uint8(self._restore(model, y)[0].float().cpu().numpy())
                truth = to_uint8(clear)
                values.append((psnr_uint8(restored, truth), ssim_luma(restored, truth)))
                if number < PICTURES:
                    rows.append(np.concatenate([to_uint8(cloudy[: len(clear)]), restored, truth], axis=2))
            scores[f"{name}/psnr"], scores[f"{name}/ssim"] = (float(v) for v in np.mean(values, axis=0))
        _write_picture(picture, rows)
        return scores

    def _restore(self, model: RestorationModel, y: Tensor) -> Tensor:
        if self.stage == "prior":
            reference = model.reference(y)
            assert reference is not None
            return reference
        if self.stage == "coarse":
            return _sample_cnp(cast(DE, model), y)
        return restore(model, y, self.recipe.sampling).clear


def _sample_cnp(model: DE, y: Tensor) -> Tensor:
    """Diffusion with the CNP alone as it stands: pure, or from the reference prior where the CNP refines it."""
    y_pad = pad_to_multiple(2 * y - 1, model.multiple)
    x_E = model.reference(y_pad / 2 + 0.5) if model.config.prediction == "refinement" else None
    x_T = noise_field(0, y_pad.shape[-2], y_pad.shape[-1], model.bands)[None].to(y)
    steps = timesteps(model.schedule.T, COARSE_STEPS, "trailing")
    for step in dpm(model.predictor(y_pad, None if x_E is None else 2 * x_E - 1), model.schedule, x_T, steps):
        x0 = step.x0
    return crop(x0 / 2 + 0.5, y.shape[-2], y.shape[-1]).clamp(0, 1)


def _write_picture(path: Path, rows: list[NDArray[np.uint8]]) -> None:
    """cloudy | restored | clear, one pair a row; the first three bands (or the first, grey)."""
    make_folder(path.parent)
    width = min(row.shape[2] for row in rows)
    sheet = np.concatenate([row[:, :, :width] for row in rows], axis=1)
    shown = sheet[:3] if len(sheet) >= 3 else np.repeat(sheet[:1], 3, axis=0)
    with writing(path):
        Image.fromarray(np.ascontiguousarray(np.moveaxis(shown, 0, -1))).save(path)

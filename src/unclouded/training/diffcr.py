"""DiffCR's training loss (Zou et al., TGRS 2024, section III): one network, one stage, continuous noise levels.

The noise level γ (= ᾱ) is drawn uniformly between two neighbouring steps of the schedule of 2000 training steps, so
that the network can be asked at any level afterwards, whatever steps the sampler takes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from unclouded.diffusion.schedule import SCHEDULES
from unclouded.models.diffcr import DiffCR

TRAINING_STEPS = 2000


def noise_levels(model: DiffCR, n: int, generator: torch.Generator, T: int = TRAINING_STEPS) -> Tensor:
    """`n` levels γ in (0, 1), float32 [n], each uniform between ᾱ_t and ᾱ_{t−1} (ᾱ_{−1} = 1) for a uniform step t <
    T."""
    schedule = SCHEDULES[model.config.schedule](T)
    t = torch.randint(T, (n,), generator=generator)
    low, high = (schedule.at(step).flatten() for step in (t, t - 1))
    return torch.lerp(low, high, torch.rand(n, generator=generator, dtype=torch.float64)).float()


# ‖x̂0(x_γ, γ, y) − x0‖², or ‖ε̂ − ε‖² for a network that predicts the noise; x_γ = √γ x0 + √(1−γ) ε
def l_diffcr(model: DiffCR, y: Tensor, x0: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """y [B, N·bands, H, W] and x0 [B, bands, H, W] in [0, 1], H and W multiples of `model.multiple`."""
    y, x0 = 2 * y - 1, 2 * x0 - 1
    gamma = noise_levels(model, len(y), generator).to(y)
    eps = torch.randn(x0.shape, generator=generator).to(x0)
    level = gamma.view(-1, 1, 1, 1)
    predicted = model.network(level.sqrt() * x0 + (1 - level).sqrt() * eps, gamma, model.network.condition(y))
    return {"mse": F.mse_loss(predicted, x0 if model.config.prediction == "x0" else eps)}

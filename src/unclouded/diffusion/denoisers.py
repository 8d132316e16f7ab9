"""Denoisers: anything that turns (x_t, t) into an estimate of x0 (Sui et al. 2024, arXiv 2401.15105, eq. 9–12).

Noise prediction, x0 prediction and the paper's weight allocation are three ways to make one; samplers cannot tell them
apart. Images are [B, C, H, W] in [−1, 1], t is [B] long. `y` is the cloudy image, `x_E` the reference prior's (eq. 10).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unclouded.diffusion.schedule import Schedule
from unclouded.errors import UsageError


class Denoised(NamedTuple):
    """An estimate of x0, and what it was made of; all [B, C, H, W]."""

    x0: Tensor  # x_{0,t}: what the sampler goes on with
    w: Tensor | None = None  # W: the share of the reference prior
    x0_eps: Tensor | None = None  # x_{0,ε,t}: the diffusion model's own estimate


Denoiser = Callable[[Tensor, Tensor], Denoised]
Network = Callable[[Tensor, Tensor], Tensor]  # (images concatenated over bands, t [B]) -> [B, C, H, W]


# Eq. 9: the conditional noise predictor ε̂_θ(x_t, t, y) implies x_{0,ε,t}
def eps_denoiser(network: Network, schedule: Schedule, y: Tensor) -> Denoiser:
    """A network that predicts the noise from concat(x_t, y), as the DE paper's CNP does."""

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        eps = network(torch.cat((x_t, y), dim=1), t)
        return Denoised(schedule.x0_from_eps(x_t, eps.to(x_t), t))

    return denoise


def x0_denoiser(network: Network, y: Tensor) -> Denoiser:
    """A network that predicts x0 itself from concat(x_t, y), as DiffCR does; y may hold several cloudy frames."""

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        return Denoised(network(torch.cat((x_t, y), dim=1), t).to(x_t))

    return denoise


# Eq. 11–12: x_{0,t} = (1 − W) ⊙ x_{0,ε,t} + W ⊙ x_{0,E},  W = WA(x_t, y, x_{0,E}, t)
def fused(
    denoiser: Denoiser,
    wa: Network,
    y: Tensor,
    x_E: Tensor,
    weight_floor: float | None = 0.3,
    weight_ceiling: float = 1.0,
) -> Denoiser:
    """Diffusion enhancement: a denoiser fused with the reference prior, by weights per pixel and band.

    At sampling W is clamped to [weight_floor, 1] (the paper's η = 0.3); None leaves it unbounded, as in training.
    A weight_ceiling below 1, unless the floor is above it, keeps a little of the denoiser's answer everywhere.
    Raises UsageError for a weight floor outside [0, 1].
    """
    if weight_floor is not None and not 0 <= weight_floor <= 1:
        raise UsageError(f"A weight floor of {weight_floor} is outside [0, 1]. The paper's is 0.3.")

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        x0_eps = denoiser(x_t, t).x0
        w = wa(torch.cat((x_t, y, x_E), dim=1), t).to(x_t)
        if weight_floor is not None:
            w = w.clamp(weight_floor, max(weight_floor, weight_ceiling))
        return Denoised((1 - w) * x0_eps + w * x_E, w, x0_eps)

    return denoise


# Saharia et al. 2022 (arXiv 2205.11487), section 2.3: dynamic thresholding
def thresholded(denoiser: Denoiser, quantile: float = 0.995) -> Denoiser:
    """A denoiser whose x0 is clamped to [−s, s] and divided by s = max(1, that quantile of |x0|), image by image."""

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        denoised = denoiser(x_t, t)
        s = _quantile(denoised.x0.abs().flatten(1), quantile).clamp(min=1).view(-1, 1, 1, 1)
        return denoised._replace(x0=denoised.x0.clamp(-s, s) / s)

    return denoise


def _quantile(x: Tensor, q: float) -> Tensor:
    """The q-quantile of each row, linear between neighbours; torch.quantile refuses tensors above 16 M values."""
    place = q * (x.shape[1] - 1)
    low = x.kthvalue(int(place) + 1, dim=1).values
    high = x.kthvalue(min(int(place) + 2, x.shape[1]), dim=1).values
    return torch.lerp(low, high, place - int(place))

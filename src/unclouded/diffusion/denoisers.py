"""Denoisers: anything that turns (x_t, t) into an estimate of x0 (Sui et al. 2024, arXiv 2401.15105, eq. 9–12).

Noise prediction, x0 prediction and the paper's weight allocation are three ways to make one; samplers cannot tell them
apart. Images are [B, C, H, W] in [−1, 1], t is [B] long. `y` is the cloudy image, `x_E` the reference prior's (eq. 10).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unclouded.diffusion.schedule import Schedule
from unclouded.diffusion.windows import window_mean
from unclouded.errors import UsageError

AGREEMENT_WINDOW = 33  # pixels a side


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


class Weighing(NamedTuple):
    """What sampling makes of W before it fuses, in this order."""

    floor: float | None = 0.3  # W is at least this (the paper's η) and at most 1; None: as WA gives it, as in training
    ceiling: float = 1.0  # below 1, unless the floor is above it, a little of the denoiser's answer stays everywhere
    tolerance: float | None = None  # W is halved where the two estimates lie so far apart (`agreement`); None: nowhere

    def apply(self, w: Tensor, x0_eps: Tensor, x_E: Tensor) -> Tensor:
        if self.floor is not None:
            w = w.clamp(self.floor, max(self.floor, self.ceiling))
        return w if self.tolerance is None else w * agreement(x0_eps, x_E, self.tolerance)


AS_PUBLISHED = Weighing()


def agreement(x0_eps: Tensor, x_E: Tensor, tolerance: float) -> Tensor:
    """[B, C, H, W] twice -> [B, 1, H, W]: near 1 where the estimates lie closer together than `tolerance`, 1/2 there,
    near 0 beyond (ours). Apart is their root mean square difference over the bands and AGREEMENT_WINDOW² pixels.

    WA sees (x_t, y, x_E), not what the denoiser will say: where the prior has met nothing like y, W cannot know.
    """
    apart = window_mean((x0_eps - x_E).square().mean(dim=1, keepdim=True), AGREEMENT_WINDOW)
    return 1 / (1 + (apart / tolerance**2) ** 4)


# Eq. 11–12: x_{0,t} = (1 − W) ⊙ x_{0,ε,t} + W ⊙ x_{0,E},  W = WA(x_t, y, x_{0,E}, t)
def fused(denoiser: Denoiser, wa: Network, y: Tensor, x_E: Tensor, weighing: Weighing = AS_PUBLISHED) -> Denoiser:
    """Diffusion enhancement: a denoiser fused with the reference prior, by weights per pixel and band.

    Raises UsageError for a weight floor outside [0, 1].
    """
    if weighing.floor is not None and not 0 <= weighing.floor <= 1:
        raise UsageError(f"A weight floor of {weighing.floor} is outside [0, 1]. The paper's is 0.3.")

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        x0_eps = denoiser(x_t, t).x0
        w = weighing.apply(wa(torch.cat((x_t, y, x_E), dim=1), t).to(x_t), x0_eps, x_E)
        return Denoised(torch.lerp(x0_eps, x_E, w), w, x0_eps)

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

"""Samplers: from noise to image by repeated denoising. They take any denoiser and import no model.

Each is a generator of `Step`, so that progress, W maps, early stop and saving are the caller's. All steer by x0: with a
fused denoiser (Sui et al. 2024, arXiv 2401.15105, eq. 12) they follow the fused image, and the last sample is the fused
x0 itself. Symbols: ᾱ_t from the schedule; s < t is the step after t (s = −1, ᾱ_s = 1 after the last).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from unclouded.diffusion.denoisers import Denoiser
from unclouded.diffusion.schedule import Schedule
from unclouded.errors import UsageError


class Step(NamedTuple):
    """One evaluation of the denoiser; images are [B, C, H, W]."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a step
    t: int
    x_t: Tensor  # what went in
    x0: Tensor  # the (fused) estimate of the clear image
    w: Tensor | None  # W of eq. 12, where the denoiser has one
    x_next: Tensor  # x_s; after the last step x0


Noise = Callable[[int], Tensor]  # step index -> standard normal, shaped like x_T
Update = Callable[[int, int, int, Tensor, Tensor], Tensor]  # (index, t, s, x_t, x0) -> x_s
Sampler = Callable[..., Iterator[Step]]


# Song et al. 2021 (arXiv 2010.02502), eq. 12 and 16, with ε from the fused x0 (eq. 4)
def ddim(
    denoiser: Denoiser,
    schedule: Schedule,
    x_T: Tensor,
    steps: Sequence[int],
    *,
    eta: float = 0.0,
    noise: Noise | None = None,
) -> Iterator[Step]:
    """Denoising diffusion implicit models: deterministic for eta = 0 (the DE paper's sampler), ancestral for eta = 1.

    Raises UsageError for an eta outside [0, 1], an eta above 0 without noise, or steps that do not descend to ≥ 0.
    """
    if not 0 <= eta <= 1 or (eta > 0 and noise is None):
        raise UsageError(f"DDIM cannot use eta = {eta} here. Give eta = 0, or up to 1 together with noise.")

    def update(index: int, t: int, s: int, x_t: Tensor, x0: Tensor) -> Tensor:
        a_t, a_s = _alpha_bars(schedule, t, s)
        sigma = eta * math.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))
        # x_s = √ᾱ_s x0 + √(1−ᾱ_s−σ²) ε + σ z,  ε = (x_t − √ᾱ_t x0) / √(1−ᾱ_t)
        share = math.sqrt((1 - a_s - sigma**2) / (1 - a_t))
        x_s = (math.sqrt(a_s) - share * math.sqrt(a_t)) * x0 + share * x_t
        return x_s if noise is None or sigma == 0 else x_s + sigma * noise(index)

    return _sample(denoiser, x_T, steps, update)


# Eq. 13–15: q(x_s | x_t, x_{0,t}) with the fused x_{0,t}; over skipped steps α_t = ᾱ_t/ᾱ_s
def ddpm(denoiser: Denoiser, schedule: Schedule, x_T: Tensor, steps: Sequence[int], *, noise: Noise) -> Iterator[Step]:
    """Ancestral sampling: the posterior's mean, plus noise by the root of its variance β̃.

    Raises UsageError for steps that do not descend to ≥ 0.
    """

    def update(index: int, t: int, s: int, x_t: Tensor, x0: Tensor) -> Tensor:
        a_t, a_s = _alpha_bars(schedule, t, s)
        alpha, beta = a_t / a_s, 1 - a_t / a_s
        # Eq. 14: μ̃ = √ᾱ_s β_t/(1−ᾱ_t) x0 + √α_t (1−ᾱ_s)/(1−ᾱ_t) x_t
        mean = math.sqrt(a_s) * beta / (1 - a_t) * x0 + math.sqrt(alpha) * (1 - a_s) / (1 - a_t) * x_t
        # Eq. 15: β̃ = (1−ᾱ_s)/(1−ᾱ_t) β_t, a variance
        variance = (1 - a_s) / (1 - a_t) * beta
        return mean if variance == 0 else mean + math.sqrt(variance) * noise(index)

    return _sample(denoiser, x_T, steps, update)


# Lu et al. 2022 (arXiv 2211.01095), Algorithm 2: DPM-Solver++(2M), λ = log(√ᾱ / √(1−ᾱ))
def dpm(denoiser: Denoiser, schedule: Schedule, x_T: Tensor, steps: Sequence[int]) -> Iterator[Step]:
    """Two-step DPM-Solver++ on the fused x0, first order at both ends; for few steps.

    Raises UsageError for steps that do not descend to ≥ 0.
    """
    before: tuple[float, Tensor] | None = None  # λ and x0 of the step before

    def update(index: int, t: int, s: int, x_t: Tensor, x0: Tensor) -> Tensor:
        nonlocal before
        lam, lam_s = _half_log_snr(schedule, t, s)
        D = x0
        if before is not None and s >= 0:
            r = (lam - before[0]) / (lam_s - lam)
            D = torch.lerp(before[1], x0, 1 + 1 / (2 * r))  # (1 + 1/2r) x0 − 1/2r x0_before
        before = lam, x0
        return _exponential(schedule, t, s, x_t, D)

    return _sample(denoiser, x_T, steps, update)


# Zhao et al. 2023 (arXiv 2302.04867), Algorithms 7 and 8 (data prediction), order 2, B(h) = e^(−h) − 1
def unipc(denoiser: Denoiser, schedule: Schedule, x_T: Tensor, steps: Sequence[int]) -> Iterator[Step]:
    """UniPC: DPM-Solver++(2M) predicts x_s; once x0 is known there, the step to it is taken again, one order higher.

    The correction costs no evaluation. `Step.x_t` is what the denoiser saw: the prediction, not its correction.
    Raises UsageError for steps that do not descend to ≥ 0.
    """
    past: list[tuple[int, float, Tensor, Tensor]] = []  # (t, λ, x_t corrected, x0), the newest last; two at most

    def corrected(t: int, lam: float, x0: Tensor) -> Tensor:
        t1, lam1, x1, m1 = past[-1]
        h = lam - lam1
        if len(past) == 1:
            return _exponential(schedule, t1, t, x1, torch.lerp(m1, x0, 0.5))
        _, lam2, _, m2 = past[-2]
        # [1 1; r 1] ρ = [φ_2 · 1!; φ_3 · 2!] / B(h): the integral is exact for a λ-polynomial through the three x0
        r, B = (lam2 - lam1) / h, math.expm1(-h)
        b1 = (-B / h - 1) / B
        b2 = 2 * ((B / h + 1) / h - 1 / 2) / B
        rho1 = (b1 - b2) / (1 - r)
        return _exponential(schedule, t1, t, x1, m1 + rho1 / r * (m2 - m1) + (b1 - rho1) * (x0 - m1))

    def update(index: int, t: int, s: int, x_t: Tensor, x0: Tensor) -> Tensor:
        lam, lam_s = _half_log_snr(schedule, t, s)
        D = x0
        if past:
            x_t = corrected(t, lam, x0)
            if s >= 0:
                r = (lam - past[-1][1]) / (lam_s - lam)
                D = torch.lerp(past[-1][3], x0, 1 + 1 / (2 * r))
        past[:] = [*past[-1:], (t, lam, x_t, x0)]
        return _exponential(schedule, t, s, x_t, D)

    return _sample(denoiser, x_T, steps, update)


SAMPLERS: dict[str, Sampler] = {"ddim": ddim, "ddpm": ddpm, "dpm": dpm, "unipc": unipc}


@torch.no_grad()
def until_settled(run: Iterator[Step], tolerance: float) -> Iterator[Step]:
    """The steps of a sampler, ended once x0 no longer moves: later evaluations would change next to nothing.

    An image has settled when its x0 differs from the step before by at most `tolerance` (root mean square over its
    pixels and bands, in model units: 1/127.5 is one grey level of 255). It keeps that x0 as its sample while others of
    the batch go on, so that no image depends on its company. Raises UsageError for a negative tolerance.
    """
    if not tolerance >= 0:
        raise UsageError(
            f"A tolerance of {tolerance} can never be met. Give 0 or more; 0.005 is about half a grey level."
        )
    first = next(run)
    yield first
    kept = first.x0
    settled = torch.zeros(len(kept), 1, 1, 1, dtype=torch.bool, device=kept.device)
    for step in run:
        x0 = torch.where(settled, kept, step.x0)
        moved = (x0 - kept).square().mean((1, 2, 3), keepdim=True).sqrt()  # [B, 1, 1, 1]
        kept, settled = x0, settled | (moved <= tolerance)
        yield step._replace(x0=x0, x_next=torch.where(settled, x0, step.x_next))
        if settled.all():
            return


def _alpha_bars(schedule: Schedule, *steps: int) -> list[float]:
    return [schedule.at(t).item() for t in steps]


# λ = log(√ᾱ / √(1−ᾱ)); ∞ for the clean image
def _half_log_snr(schedule: Schedule, *steps: int) -> list[float]:
    return [math.log(a / (1 - a)) / 2 if a < 1 else math.inf for a in _alpha_bars(schedule, *steps)]


# x_s = √(1−ᾱ_s)/√(1−ᾱ_t) x_t − √ᾱ_s (e^(−h) − 1) D,  h = λ_s − λ_t: exact while x0 is D all the way
def _exponential(schedule: Schedule, t: int, s: int, x_t: Tensor, D: Tensor) -> Tensor:
    a_t, a_s = _alpha_bars(schedule, t, s)
    lam, lam_s = _half_log_snr(schedule, t, s)
    return math.sqrt((1 - a_s) / (1 - a_t)) * x_t - math.sqrt(a_s) * math.expm1(lam - lam_s) * D


def _sample(denoiser: Denoiser, x_T: Tensor, steps: Sequence[int], update: Update) -> Iterator[Step]:
    if not steps or steps[-1] < 0 or any(t <= s for t, s in pairwise(steps)):
        raise UsageError(f"The sampling steps {list(steps)} do not descend to 0 or more. Take them from `timesteps`.")
    return _walk(denoiser, x_T, steps, update)


@torch.no_grad()
def _walk(denoiser: Denoiser, x: Tensor, steps: Sequence[int], update: Update) -> Iterator[Step]:
    for index, (t, s) in enumerate(pairwise((*steps, -1))):
        denoised = denoiser(x, torch.tensor([t], device=x.device).expand(len(x)))
        x_t, x = x, update(index, t, s, x, denoised.x0)
        yield Step(index, t, x_t, denoised.x0, denoised.w, x)

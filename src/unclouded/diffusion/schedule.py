"""Noise schedules and the forward process (Sui et al. 2024, arXiv 2401.15105, eq. 1–4 and 9).

Symbols: `x0` clear image, `x_t` noisy image at step t, `eps` its noise, `alpha_bar[t]` the cumulative product of 1 − β.
Steps are integers 0 … T−1; t = −1 stands for the clean image (ᾱ = 1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from unclouded.errors import UsageError

Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """ᾱ_t for t = 0 … T−1 ([T] float64 on the CPU, decreasing), and the formulas that need nothing else."""

    alpha_bar: Tensor

    @property
    def T(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    def _table(self) -> Tensor:
        return torch.cat((self.alpha_bar, self.alpha_bar.new_ones(1)))  # [T+1], so that index −1 gives 1

    def at(self, t: Tensor | int) -> Tensor:
        """ᾱ_t, [B, 1, 1, 1] for t [B] and [1, 1, 1, 1] for an int; float64 (float32 where a device has no float64)."""
        t = torch.as_tensor(t).reshape(-1)
        table = self._table.float() if t.device.type == "mps" else self._table
        return table.to(t.device)[t].view(-1, 1, 1, 1)

    def _signal_noise(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        alpha_bar = self.at(t)  # roots in float64: 1 − ᾱ_0 = 1e-4 loses three digits in float32
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)

    # Eq. 4: x_t = √ᾱ_t x0 + √(1−ᾱ_t) ε
    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """A sample of q(x_t | x0), [B, C, H, W]. Of a reference prior x_E it is the warm start."""
        signal, noise = self._signal_noise(t, x0)
        return signal * x0 + noise * eps

    # Eq. 9: x_{0,ε,t} = (x_t − √(1−ᾱ_t) ε_t) / √ᾱ_t, clamped to [−1, 1]
    def x0_from_eps(self, x_t: Tensor, eps: Tensor, t: Tensor | int) -> Tensor:
        """The clear image that a noise estimate implies, [B, C, H, W] in [−1, 1]."""
        signal, noise = self._signal_noise(t, x_t)
        return ((x_t - noise * eps) / signal).clamp(-1, 1)

    # Eq. 4 solved for ε: the noise that x0 and x_t imply
    def eps_from_x0(self, x_t: Tensor, x0: Tensor, t: Tensor | int) -> Tensor:
        """The noise that a clear image implies, [B, C, H, W]."""
        signal, noise = self._signal_noise(t, x_t)
        return (x_t - signal * x0) / noise


# β_t on a line from β_start to β_end (Ho et al. 2020; the DE paper: 1e-4 to 0.02 over T = 1000)
def linear(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """The DE paper's schedule. The β are not rescaled where T is not 1000."""
    return _from_betas(torch.linspace(beta_start, beta_end, _checked(T), dtype=torch.float64))


# ᾱ(u) ∝ cos²((u + s)/(1 + s) · π/2), u = t/T (Nichol & Dhariwal 2021, eq. 17)
def cosine(T: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> Schedule:
    u = torch.linspace(0, 1, _checked(T) + 1, dtype=torch.float64)
    return _from_curve(((u + s) / (1 + s) * math.pi / 2).cos() ** 2, beta_max)


# ᾱ(u) = (σ(3) − σ(6u − 3)) / (σ(3) − σ(−3)), u = t/T (DiffCR: Zou et al. 2024, arXiv 2308.04417)
def sigmoid(T: int = 1000, beta_max: float = 0.999) -> Schedule:
    """DiffCR's schedule: 2000 steps in its training, 1000 in its tests."""
    u = torch.linspace(0, 1, _checked(T) + 1, dtype=torch.float64)
    low, high = torch.tensor([-3.0, 3.0], dtype=torch.float64).sigmoid()
    return _from_curve((high - (6 * u - 3).sigmoid()) / (high - low), beta_max)


# log α(t) with α = √ᾱ linear between α_i at t = (i+1)/M (Lu et al. 2022, arXiv 2206.00927, appendix D, "discrete time")
def uniform_in_time(schedule: Schedule, points: int, lambda_min: float = -5.1) -> tuple[Schedule, int]:
    """The schedule in continuous time, at `points` times from 1/M to 1, equally apart; and M.

    M counts the steps kept: those whose half-log-SNR λ = log α − log √(1−ᾱ) is at least `lambda_min`. Solvers of few
    steps are sensitive to the last, almost pure noise. Raises UsageError if fewer than two steps or points are left.
    """
    log_alpha = schedule.alpha_bar.log() / 2
    log_alpha = log_alpha[log_alpha - torch.log1p(-schedule.alpha_bar) / 2 >= lambda_min]
    M = len(log_alpha)
    if min(M, points) < 2:
        raise UsageError(f"{M} steps above λ = {lambda_min} cannot give {points} points. Give a longer schedule.")
    place = torch.linspace(0, M - 1, points, dtype=torch.float64)  # t = (place + 1) / M
    left = place.long().clamp(max=M - 2)
    return Schedule(torch.lerp(log_alpha[left], log_alpha[left + 1], place - left).mul(2).exp()), M


def _from_curve(alpha_bar: Tensor, beta_max: float) -> Schedule:
    return _from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=beta_max))


def _from_betas(betas: Tensor) -> Schedule:
    return Schedule((1 - betas).cumprod(0))  # ᾱ_t = Π_{s ≤ t} (1 − β_s)


def _checked(T: int) -> int:
    if T < 1:
        raise UsageError(f"A noise schedule of T = {T} steps is empty. Give T ≥ 1; the papers use 1000.")
    return T


SCHEDULES: dict[str, Callable[..., Schedule]] = {"linear": linear, "cosine": cosine, "sigmoid": sigmoid}


def timesteps(T: int, n: int, spacing: Spacing = "leading", start: int | None = None) -> list[int]:
    """`n` of the steps 0 … start−1, descending: where a sampler evaluates its denoiser.

    `start` (default T) is the warm start: sampling begins at `steps[0]` < start, from the reference prior noised to it.
    For start = 1000, n = 10: leading 900 … 0 (the DE paper's), trailing 999 … 99, linspace 999 … 0.

    Raises UsageError unless 1 ≤ n ≤ start and 0 < start ≤ T.
    """
    start = T if start is None else start
    if not 0 < start <= T:
        raise UsageError(f"A warm start at step {start} is outside (0, {T}]. Give a start from 1 to {T}.")
    if not 1 <= n <= start:
        raise UsageError(f"{n} sampling steps do not fit into {start} steps of the schedule. Give 1 to {start} steps.")
    if spacing == "leading":
        steps = [i * start // n for i in range(n)]
    elif spacing == "trailing":
        steps = [round(i * start / n) - 1 for i in range(1, n + 1)]
    elif spacing == "linspace":
        steps = [round(i * (start - 1) / (n - 1)) for i in range(n)] if n > 1 else [start - 1]
    else:
        raise UsageError(f"Unknown step spacing {spacing!r}. Choose one of {', '.join(get_args(Spacing))}.")
    return steps[::-1]

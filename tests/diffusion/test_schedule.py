"""Schedules and the forward process: the papers' numbers, diffusers' tables, closed forms."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from unclouded.diffusion.schedule import SCHEDULES, Schedule, cosine, linear, sigmoid, timesteps
from unclouded.errors import UsageError


def normals(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def test_linear_is_the_de_papers() -> None:
    schedule = linear()
    assert schedule.T == 1000
    assert schedule.at(37).item() == pytest.approx(0.98235, abs=5e-6)
    assert schedule.at(913).item() == pytest.approx(2.129e-4, abs=5e-8)
    assert_close(schedule.alpha_bar.float(), DDPMScheduler().alphas_cumprod, rtol=2e-5, atol=0)


def test_cosine_is_diffusers() -> None:
    oracle = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert_close(cosine().alpha_bar.float(), oracle, rtol=1e-3, atol=1e-6)  # its β are rounded to float32


@pytest.mark.parametrize(("T", "name"), [(2000, "train"), (1000, "test")])
def test_sigmoid_is_diffcrs(golden_dir: Path, T: int, name: str) -> None:
    betas = load_file(golden_dir / "diffcr_rgb.io.safetensors")[f"betas.{name}"]
    assert_close(sigmoid(T).alpha_bar, (1 - betas.double()).cumprod(0), rtol=1e-4, atol=1e-12)


def test_sigmoid_without_clipping_is_its_curve() -> None:
    alpha_bar, u = sigmoid(10).alpha_bar, torch.arange(1, 10, dtype=torch.float64) / 10
    sigma = torch.special.expit
    three = torch.tensor(3.0, dtype=torch.float64)
    assert_close(alpha_bar[:-1], (sigma(three) - sigma(6 * u - 3)) / (sigma(three) - sigma(-three)))
    assert_close(alpha_bar[-1], alpha_bar[-2] * 0.001)  # β = 1 is clipped to 0.999


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [1, 2, 50, 1000])
def test_schedules_descend_within_0_and_1(name: str, T: int) -> None:
    schedule = SCHEDULES[name](T)
    assert schedule.T == T
    assert schedule.alpha_bar.dtype == torch.float64
    assert ((schedule.alpha_bar > 0) & (schedule.alpha_bar < 1)).all()
    assert (schedule.alpha_bar.diff() < 0).all()


def test_at_takes_ints_and_tensors_and_is_1_before_the_first_step() -> None:
    schedule = linear()
    assert schedule.at(-1).item() == 1
    assert schedule.at(3).shape == (1, 1, 1, 1)
    t = torch.tensor([0, -1, 999])
    assert schedule.at(t).shape == (3, 1, 1, 1)
    assert_close(
        schedule.at(t).flatten(), torch.stack((schedule.alpha_bar[0], normals().fill_(1), schedule.alpha_bar[-1]))
    )


def test_forward_process_has_the_variance_of_its_steps() -> None:
    # Eq. 1–2: x_t = √(1−β_t) x_{t−1} + √β_t ε one step after the other, in moments
    schedule = linear(30, beta_end=0.2)
    betas = 1 - schedule.alpha_bar / torch.cat((torch.ones(1, dtype=torch.float64), schedule.alpha_bar[:-1]))
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(betas.tolist()):
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
        one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
        assert schedule.add_noise(one, zero, t).item() == pytest.approx(mean, rel=1e-12)
        assert schedule.add_noise(zero, one, t).item() ** 2 == pytest.approx(variance, rel=1e-12)


@given(t=st.integers(0, 999), name=st.sampled_from(sorted(SCHEDULES)))
def test_round_trips_between_noise_and_image(t: int, name: str) -> None:
    schedule, x0, eps = SCHEDULES[name](), normals(2, 3, 4, 4).clamp(-1, 1), normals(2, 3, 4, 4)
    x_t = schedule.add_noise(x0, eps, torch.tensor([t, t]))
    assert_close(schedule.eps_from_x0(x_t, x0, t), eps, rtol=1e-6, atol=1e-6)
    if schedule.at(t) > 1e-9:
        assert_close(schedule.x0_from_eps(x_t, eps, t), x0, rtol=1e-6, atol=1e-6)


def test_x0_is_clamped_and_keeps_the_dtype() -> None:
    x_t = torch.full((1, 1, 2, 2), 3.0)
    for dtype in (torch.float32, torch.float64):
        x0 = linear().x0_from_eps(x_t.to(dtype), torch.zeros_like(x_t, dtype=dtype), torch.tensor([500]))
        assert x0.dtype == dtype
        assert torch.equal(x0, torch.ones_like(x0))


def test_each_image_has_its_own_step() -> None:
    x0, eps, t = normals(3, 2, 4, 4), normals(3, 2, 4, 4), torch.tensor([3, 500, 999])
    together = linear().add_noise(x0, eps, t)
    for i in range(3):
        assert_close(together[i : i + 1], linear().add_noise(x0[i : i + 1], eps[i : i + 1], int(t[i])))


@pytest.mark.parametrize(
    ("n", "spacing", "start", "expected"),
    [
        (10, "leading", None, [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
        (4, "trailing", None, [999, 749, 499, 249]),
        (4, "linspace", None, [999, 666, 333, 0]),
        (3, "leading", 300, [200, 100, 0]),
        (3, "trailing", 300, [299, 199, 99]),
        (3, "linspace", 301, [300, 150, 0]),
        (1, "leading", None, [0]),
        (1, "trailing", None, [999]),
        (1, "linspace", 500, [499]),
    ],
)
def test_timesteps(n: int, spacing: Any, start: int | None, expected: list[int]) -> None:
    assert timesteps(1000, n, spacing, start) == expected


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("n", [10, 50, 100])
def test_timesteps_are_diffusers(spacing: Any, n: int) -> None:
    oracle = DDIMScheduler(timestep_spacing=spacing)
    oracle.set_timesteps(n)
    assert timesteps(1000, n, spacing) == oracle.timesteps.tolist()


@given(data=st.data(), T=st.integers(1, 1200), spacing=st.sampled_from(["leading", "trailing", "linspace"]))
def test_timesteps_are_n_distinct_descending_steps_below_the_start(data: st.DataObject, T: int, spacing: Any) -> None:
    start = data.draw(st.integers(1, T))
    n = data.draw(st.integers(1, start))
    steps = timesteps(T, n, spacing, start)
    assert len(steps) == n
    assert steps == sorted(set(steps), reverse=True)
    assert 0 <= steps[-1] <= steps[0] < start
    assert n == start or spacing == "leading" or steps[0] == start - 1
    assert spacing != "leading" or steps[-1] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1000, 0), "0 sampling steps"),
        ((1000, 1001), "1 to 1000 steps"),
        ((1000, 50, "leading", 40), "1 to 40 steps"),
        ((1000, 50, "leading", 0), r"outside \(0, 1000\]"),
        ((1000, 50, "leading", 1001), r"outside \(0, 1000\]"),
        ((1000, 50, "karras"), "leading, trailing, linspace"),
    ],
)
def test_impossible_steps_say_what_to_give(arguments: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        timesteps(*arguments)


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_empty_schedule_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="T = 0"):
        SCHEDULES[name](0)


def test_a_schedule_of_ones_own() -> None:
    schedule = Schedule(torch.tensor([0.81, 0.25], dtype=torch.float64))
    assert schedule.add_noise(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 1).item() == pytest.approx(0.5)

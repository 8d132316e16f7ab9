"""The samplers against diffusers' schedulers (step by step, float64), and against distributions with closed forms."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor
from torch.testing import assert_close

from unclouded.diffusion.denoisers import Denoised
from unclouded.diffusion.samplers import SAMPLERS, Step, ddim, ddpm, dpm, unipc, until_settled
from unclouded.diffusion.schedule import Schedule, cosine, linear, sigmoid, timesteps
from unclouded.errors import UsageError

# diffusers hands tensors to numpy in a way that numpy 2 frowns on
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Sampler = Callable[..., Iterator[Step]]

LINEAR = linear()
ONE = torch.ones((), dtype=torch.float64)
GRIDS = [
    timesteps(1000, 10),
    timesteps(1000, 7, "trailing"),
    timesteps(1000, 4, "linspace"),
    [999],
    [500, 0],
    [9, 3, 1],
]


def curved(x_t: Tensor, t: Tensor) -> Denoised:
    """Some denoiser that depends on everything it is given."""
    return Denoised(torch.tanh(0.7 * x_t + 0.3 * x_t.flip(-1) - t.view(-1, 1, 1, 1) / 900))


def normals(seed: int, shape: tuple[int, ...] = (2, 3, 4, 5)) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def follow(scheduler: Any, run: Iterator[Step], tol: float = 1e-9, **options: Callable[[int], object]) -> None:
    """Walk diffusers' scheduler beside ours, on the same estimates of x0."""
    x = normals(0)
    for step in run:
        assert_close(step.x_t, x.to(step.x_t), rtol=tol, atol=tol)
        extra = {name: option(step.index) for name, option in options.items()}
        x = scheduler.step(step.x0, step.t, x, **extra).prev_sample
        assert_close(step.x_next, x.to(step.x_next), rtol=tol, atol=tol)


def in_float64(scheduler: Any, schedule: Schedule, steps: list[int]) -> None:
    """diffusers rounds its tables to float32; give it ours instead."""
    sigmas = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
    scheduler.timesteps = torch.tensor(steps)
    scheduler.sigmas = torch.cat((sigmas[steps], 0 * ONE[None]))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_is_diffusers(eta: float, spacing: Any) -> None:
    oracle = DDIMScheduler(timestep_spacing=spacing, prediction_type="sample", clip_sample=False)
    oracle.alphas_cumprod, oracle.final_alpha_cumprod = LINEAR.alpha_bar, ONE
    oracle.set_timesteps(10)
    steps = timesteps(1000, 10, spacing)
    assert steps == oracle.timesteps.tolist()
    run = ddim(curved, LINEAR, normals(0), steps, eta=eta, noise=normals)
    follow(oracle, run, eta=lambda i: eta, variance_noise=normals)


@pytest.mark.parametrize("n", [10, 250, 1000])
def test_ddpm_is_diffusers(n: int) -> None:
    oracle = DDPMScheduler(prediction_type="sample", clip_sample=False, variance_type="fixed_small")
    oracle.alphas_cumprod, oracle.one = LINEAR.alpha_bar, ONE
    oracle.set_timesteps(n)
    run = ddpm(curved, LINEAR, normals(0), timesteps(1000, n), noise=normals)
    follow(oracle, run, generator=lambda i: torch.Generator().manual_seed(i))


@pytest.mark.parametrize("schedule", [LINEAR, cosine(), sigmoid()])
@pytest.mark.parametrize("steps", GRIDS)
def test_dpm_is_diffusers(schedule: Schedule, steps: list[int]) -> None:
    oracle = DPMSolverMultistepScheduler(prediction_type="sample", final_sigmas_type="zero")
    oracle.set_timesteps(timesteps=steps)
    in_float64(oracle, schedule, steps)
    follow(oracle, dpm(curved, schedule, normals(0), steps), tol=2e-6)  # it steps in float32 whatever it is given


@pytest.mark.parametrize("schedule", [LINEAR, cosine(), sigmoid()])
@pytest.mark.parametrize("steps", GRIDS)
def test_unipc_is_diffusers(schedule: Schedule, steps: list[int]) -> None:
    oracle = UniPCMultistepScheduler(prediction_type="sample", final_sigmas_type="zero", solver_order=2)
    oracle.set_timesteps(len(steps))
    in_float64(oracle, schedule, steps)
    follow(oracle, unipc(curved, schedule, normals(0), steps))


@pytest.mark.parametrize("sampler", [ddim, dpm, unipc])
@pytest.mark.parametrize("steps", GRIDS)
def test_a_known_x0_is_approached_along_the_forward_process(sampler: Sampler, steps: list[int]) -> None:
    x0, eps = normals(1), normals(2)
    run = list(sampler(lambda x_t, t: Denoised(x0), LINEAR, LINEAR.add_noise(x0, eps, steps[0]), steps))
    assert [step.t for step in run] == steps
    assert [step.index for step in run] == list(range(len(steps)))
    for step in run:
        assert_close(step.x_t, LINEAR.add_noise(x0, eps, step.t), rtol=1e-9, atol=1e-9)
    assert torch.equal(run[-1].x_next, x0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_sample_is_the_last_fused_x0(name: str, dtype: torch.dtype) -> None:
    noise = {"noise": lambda i: normals(i).to(dtype)} if name == "ddpm" else {}
    run = list(SAMPLERS[name](curved, LINEAR, normals(0).to(dtype), [999, 400, 20], **noise))
    assert torch.equal(run[-1].x_next, run[-1].x0)
    assert run[-1].x_next.dtype == dtype


# For x0 ~ N(μ, v): E[x0 | x_t] = μ + √ᾱ v / (ᾱ v + 1 − ᾱ) · (x_t − √ᾱ μ)
MU, V = 0.3, 0.04


def gaussian(x_t: Tensor, t: Tensor) -> Denoised:
    a = LINEAR.at(t)
    return Denoised(MU + a.sqrt() * V / (a * V + 1 - a) * (x_t - a.sqrt() * MU))


def on_the_flow(z: Tensor, t: int) -> Tensor:
    """The probability-flow ODE of that distribution keeps each z: x_t = √ᾱ μ + √(ᾱ v + 1 − ᾱ) z."""
    a = LINEAR.at(t)
    return a.sqrt() * MU + (a * V + 1 - a).sqrt() * z


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm, 2), (unipc, 3)])
def test_solvers_converge_to_the_exact_flow_at_their_order(sampler: Sampler, order: int) -> None:
    z = normals(3)

    def error(n: int) -> float:
        steps = torch.linspace(990, 90, n + 1).round().int().tolist()
        *_, last = sampler(gaussian, LINEAR, on_the_flow(z, 990), steps)
        return (last.x_t - on_the_flow(z, 90)).abs().max().item()

    coarse, fine = error(30), error(90)
    assert 3 ** (order - 0.2) < coarse / fine < 3 ** (order + 0.2)
    assert fine < {1: 1e-2, 2: 5e-4, 3: 1e-4}[order]


def ancestral_ddim(*arguments: Any, noise: Callable[[int], Tensor]) -> Iterator[Step]:
    return ddim(*arguments, eta=1.0, noise=noise)


@pytest.mark.parametrize("sampler", [ddpm, ancestral_ddim])
def test_ancestral_sampling_draws_from_the_distribution(sampler: Sampler) -> None:
    shape = (1, 1, 100, 200)
    noise = torch.Generator().manual_seed(0)
    x_T = torch.randn(shape, generator=noise)
    *_, last = sampler(
        gaussian, LINEAR, x_T, timesteps(1000, 1000), noise=lambda i: torch.randn(shape, generator=noise)
    )
    a_0 = LINEAR.at(0).item()
    undrawn = V * (1 - a_0) / (a_0 * V + 1 - a_0)  # the last sample is a posterior mean
    assert abs(last.x_next.mean().item() - MU) < 5 * (V / 20000) ** 0.5
    assert abs(last.x_next.var().item() / (V - undrawn) - 1) < 0.05


def test_ancestral_step_over_a_skip_stays_on_the_forward_process() -> None:
    shape, t, s = (1, 1, 200, 200), 700, 300
    x0 = torch.full(shape, 0.5, dtype=torch.float64)
    x_t = LINEAR.add_noise(x0, normals(4, shape), t)
    first, _ = ddpm(lambda x_t, t: Denoised(x0), LINEAR, x_t, [t, s], noise=lambda i: normals(5, shape))
    eps_s = LINEAR.eps_from_x0(first.x_next, x0, s)
    assert abs(eps_s.mean().item()) < 5 / 200
    assert abs(eps_s.var().item() - 1) < 5 * 2**0.5 / 200


def test_ddim_eta_1_is_ddpm() -> None:
    steps = timesteps(1000, 20)
    ours = ddim(curved, LINEAR, normals(0), steps, eta=1.0, noise=normals)
    for a, b in zip(ours, ddpm(curved, LINEAR, normals(0), steps, noise=normals), strict=True):
        assert_close(a.x_next, b.x_next, rtol=1e-9, atol=1e-9)


def test_steps_show_the_weights_and_are_lazy() -> None:
    calls: list[int] = []

    def denoise(x_t: Tensor, t: Tensor) -> Denoised:
        assert t.shape == (2,)
        calls.append(int(t[0]))
        return Denoised(x_t, x_t + 1)

    first = next(ddim(denoise, LINEAR, normals(0), [900, 500, 0]))
    assert calls == [900]  # stopping early costs nothing
    assert first.w is not None
    assert torch.equal(first.w, normals(0) + 1)


def test_no_gradient_is_recorded_and_the_callers_mode_is_kept() -> None:
    weight = torch.ones((), requires_grad=True)
    for step in ddim(lambda x_t, t: Denoised(x_t * weight), LINEAR, normals(0), [900, 0]):
        assert not step.x_next.requires_grad
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [[], [0, 10], [10, 10], [5, -1]])
def test_steps_must_descend(name: str, steps: list[int]) -> None:
    noise = {"noise": normals} if name == "ddpm" else {}
    with pytest.raises(UsageError, match="timesteps"):
        SAMPLERS[name](curved, LINEAR, normals(0), steps, **noise)


@pytest.mark.parametrize("options", [{"eta": -0.1, "noise": normals}, {"eta": 0.5}, {"eta": 1.5, "noise": normals}])
def test_ddim_eta_needs_noise_and_bounds(options: Any) -> None:
    with pytest.raises(UsageError, match="eta"):
        ddim(curved, LINEAR, normals(0), [10, 0], **options)


def approaching(x_t: Tensor, t: Tensor) -> Denoised:
    """x0 of the first image moves by 1/4096 a step, of the second by 1/4, whatever x_t is."""
    speed = torch.tensor([1 / 4096, 1 / 4], dtype=torch.float64).view(-1, 1, 1, 1)
    return Denoised((t.view(-1, 1, 1, 1) / 100 * speed[: len(x_t)]).expand_as(x_t))


def test_sampling_ends_where_x0_no_longer_moves() -> None:
    steps = timesteps(1000, 10)  # t falls by 100 a step
    one = list(until_settled(ddim(approaching, LINEAR, normals(0)[:1], steps), 1 / 4096))
    assert [step.t for step in one] == [900, 800]
    assert torch.equal(one[-1].x_next, one[-1].x0)
    whole = list(until_settled(ddim(approaching, LINEAR, normals(0), steps), 1 / 5000))
    for a, b in zip(whole, ddim(approaching, LINEAR, normals(0), steps), strict=True):
        assert torch.equal(a.x_next, b.x_next)  # nothing settles: the run is as it was


def test_a_settled_image_does_not_depend_on_its_company() -> None:
    steps = timesteps(1000, 10)
    together = list(until_settled(ddim(approaching, LINEAR, normals(0), steps), 1 / 100))
    assert len(together) == 10  # the bright one needs them all
    *_, alone = until_settled(ddim(approaching, LINEAR, normals(0)[:1], steps), 1 / 100)
    assert torch.equal(together[-1].x_next[:1], alone.x_next)
    assert torch.equal(together[-1].x0[1:], torch.zeros(1, 3, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize("tolerance", [-1.0, float("nan")])
def test_a_tolerance_that_cannot_be_met_is_refused(tolerance: float) -> None:
    with pytest.raises(UsageError, match="tolerance"):
        next(until_settled(ddim(curved, LINEAR, normals(0), [10, 0]), tolerance))

"""DiffCR against the authors' code (golden tensors), and the laws of its frames, time conventions and sampling."""

import math
from itertools import pairwise

import pytest
import torch

from unclouded.diffusion.denoisers import Denoised, thresholded
from unclouded.diffusion.samplers import SAMPLERS
from unclouded.diffusion.schedule import sigmoid, timesteps, uniform_in_time
from unclouded.errors import UncloudedError, UsageError
from unclouded.models.authors import assemble, import_checkpoint
from unclouded.models.diffcr import DiffCR, DiffCRConfig
from unclouded.restore import restore
from unclouded.sampling import Sampling


@pytest.fixture(scope="module")
def published(golden_dir):
    return assemble(import_checkpoint(golden_dir / "diffcr_rgb.weights.safetensors"))


@pytest.fixture
def small():
    """A little DiffCR whose residual branches are awake (fresh ones start at zero)."""

    def build(**options):
        model = DiffCR(DiffCRConfig(width=4, encoder_blocks=(1, 1), decoder_blocks=(1, 1), **options))
        for name, parameter in model.named_parameters():
            if name.endswith(("beta", "gamma")):
                torch.nn.init.constant_(parameter, 0.5)
        return model.requires_grad_(False).eval()

    return build


def test_equals_the_authors_network(published, golden):
    io = golden("diffcr_rgb")
    with torch.no_grad():
        condition = published.network.condition(io["cloudy"])
        x0 = published.network(io["x_t"], io["gamma"][:, 0], condition)
    torch.testing.assert_close(x0, io["x0"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("T", "name"), [(1000, "betas.test"), (2000, "betas.train")])
def test_the_schedule_is_the_authors(golden, T, name):
    alpha_bar = (1 - golden("diffcr_rgb")[name].double()).cumprod(0)
    torch.testing.assert_close(sigmoid(T).alpha_bar[:-1], alpha_bar[:-1], rtol=1e-4, atol=0)


def published_sampler(network, y, x, time, steps=20):
    """The published sampler, written down once more straight from its description, in continuous time."""
    alpha_bar = sigmoid(1000).alpha_bar
    lam = (alpha_bar / (1 - alpha_bar)).log() / 2
    log_alpha = alpha_bar[lam >= -5.1].log() / 2
    M = len(log_alpha)
    assert M == 999

    def at(t):
        place = t * M - 1
        low = min(int(place), M - 2)
        la = float(log_alpha[low] + (place - low) * (log_alpha[low + 1] - log_alpha[low]))
        return math.exp(la), math.sqrt(1 - math.exp(2 * la))

    def x0(x, t):
        told = at(t)[0] ** 2 if time == "noise-level" else (t - 1 / M) * 1000
        x0 = network(x, torch.full((len(x),), told), condition)
        s = torch.quantile(x0.abs().flatten(1), 0.995, dim=1).clamp(min=1)[:, None, None, None]
        return x0.clamp(-s, s) / s

    condition = network.condition(y)
    times = [1 - i * (1 - 1 / M) / steps for i in range(steps + 1)]
    before = None
    for t, s in pairwise(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = at(t), at(s)
        lam_t, lam_s = math.log(alpha_t / sigma_t), math.log(alpha_s / sigma_s)
        h, estimate = lam_s - lam_t, x0(x, t)
        x = sigma_s / sigma_t * x - alpha_s * math.expm1(-h) * estimate
        if before is not None:
            slope = (estimate - before[1]) / ((lam_t - before[0]) / h)
            x = x - 0.5 * alpha_s * math.expm1(-h) * slope
        before = lam_t, estimate
    return x0(x, times[-1])


def sample(model, y, x_T, steps=21):
    places = timesteps(model.schedule.T, steps, "linspace")
    *_, last = SAMPLERS["dpm"](model.denoiser(y), model.schedule, x_T, places)
    return last.x_next


def test_twenty_steps_give_the_published_image(published, golden):
    io = golden("diffcr_rgb")
    result = sample(published, io["cloudy"][:1], io["dpm20.x_T"])
    torch.testing.assert_close(result, io["dpm20.sample"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("time", ["published", "noise-level"])
def test_both_time_conventions_follow_the_published_sampler(published, golden, time):
    io = golden("diffcr_rgb")
    model = DiffCR(published.config.model_copy(update={"time": time}))
    model.load_state_dict(published.state_dict())
    model.requires_grad_(False)
    y, x_T = io["cloudy"][:1, :, :32, :32], io["dpm20.x_T"][..., :32, :32]
    expected = published_sampler(model.network, y, x_T, time, steps=10)
    torch.testing.assert_close(sample(model, y, x_T, 11), expected, rtol=1e-3, atol=1e-4)


def test_the_conventions_tell_the_network_what_they_say(small):
    t = torch.tensor([0, 400, 1000])
    by_level, published = small(), small(time="published")
    torch.testing.assert_close(by_level.time(t), by_level.schedule.alpha_bar[t])
    expected = torch.tensor([0, 0.4, 1]).double() * (1 - 1 / 999) * 1000
    torch.testing.assert_close(published.time(t).double(), expected, rtol=1e-6, atol=0)


def test_order_and_number_of_frames(small):
    """Features are summed: order does not matter, any number goes, and frames do count."""
    model = small(frames=3)
    frames = torch.rand(2, 3, 3, 16, 16) * 2 - 1
    x_t, t = torch.randn(2, 3, 16, 16), torch.tensor([900, 10])

    def x0(*order):
        return model.denoiser(frames[:, list(order)].flatten(1, 2))(x_t, t).x0

    torch.testing.assert_close(x0(0, 1, 2), x0(2, 0, 1))
    assert not torch.allclose(x0(0, 1, 2), x0(0, 1))
    assert not torch.allclose(x0(0), x0(1))
    with pytest.raises(UncloudedError, match="8 bands are no whole number of frames of 3 bands"):
        model.denoiser(torch.rand(2, 8, 16, 16))


def test_the_frames_are_encoded_once_per_image(small):
    model = small()
    calls = []
    model.network.condition.register_forward_hook(lambda *_: calls.append(1))
    sample(model, torch.rand(1, 3, 8, 8), torch.randn(1, 3, 8, 8), steps=5)
    assert len(calls) == 1


def test_eps_prediction_is_turned_into_x0(small):
    model = small(prediction="eps", threshold=None)
    y, x_t, t = torch.rand(2, 3, 16, 16), torch.randn(2, 3, 16, 16), torch.tensor([700, 3])
    eps = model(x_t, t, y)
    torch.testing.assert_close(model.denoiser(y)(x_t, t).x0, model.schedule.x0_from_eps(x_t, eps, t))


@pytest.mark.parametrize(("bands", "frames"), [(1, 1), (4, 2), (13, 3)])
def test_the_pipeline_restores_any_bands_frames_and_size(small, bands, frames):
    y = torch.rand(2, bands * frames, 7, 21)
    restored = restore(small(bands=bands, frames=frames), y, Sampling(sampler="dpm", steps=3, spacing="linspace"))
    assert restored.clear.shape == (2, bands, 7, 21)
    assert ((restored.clear >= 0) & (restored.clear <= 1)).all()


def test_continuous_time_passes_through_the_steps():
    """As many points as steps: the schedule itself without what was dropped; more: log α on straight lines between."""
    schedule = sigmoid(1000)
    same, M = uniform_in_time(schedule, 999)
    assert M == 999
    torch.testing.assert_close(same.alpha_bar, schedule.alpha_bar[:999])
    twice, _ = uniform_in_time(schedule, 2 * 999 - 1)
    torch.testing.assert_close(twice.alpha_bar[1::2] ** 2, twice.alpha_bar[:-1:2] * twice.alpha_bar[2::2])
    with pytest.raises(UsageError, match="cannot give 1 points"):
        uniform_in_time(schedule, 1)


def test_dynamic_threshold():
    """s = max(1, quantile) of each image: one within [−1, 1] is left alone, one beyond is clamped and scaled."""
    x0 = torch.stack([torch.linspace(-0.9, 0.9, 48), torch.linspace(-4, 4, 48)]).view(2, 3, 4, 4)
    result = thresholded(lambda x, t: Denoised(x0), 0.9)(x0, torch.zeros(2)).x0
    s = torch.quantile(x0[1].abs().flatten(), 0.9)
    assert torch.equal(result[0], x0[0])
    torch.testing.assert_close(result[1], x0[1].clamp(-s, s) / s)


def test_size():
    """The published file also holds a fourth condition down-sampling that nothing uses: 2,098,176 numbers more."""
    assert sum(p.numel() for p in DiffCR(DiffCRConfig()).parameters()) == 20_839_555

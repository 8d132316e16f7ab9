"""Eq. 9–12: what each denoiser shows its networks, and the algebra of the fusion."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from unclouded.diffusion.denoisers import Denoised, Weighing, agreement, eps_denoiser, fused, x0_denoiser
from unclouded.diffusion.schedule import linear
from unclouded.errors import UsageError

T = torch.tensor([3, 700])


@pytest.fixture
def images() -> dict[str, Tensor]:
    return {name: torch.rand(2, 3, 4, 5) * 2 - 1 for name in ("x_t", "y", "x_E", "x0")}


def constant(x0: Tensor) -> Denoised:
    return Denoised(x0)


def test_noise_prediction_sees_x_t_and_y_and_inverts_the_forward_process(images: dict[str, Tensor]) -> None:
    eps = torch.randn(2, 3, 4, 5)
    x_t = linear().add_noise(images["x0"], eps, T)

    def network(x: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(x, torch.cat((x_t, images["y"]), dim=1))
        assert torch.equal(t, T)
        return eps

    denoised = eps_denoiser(network, linear(), images["y"])(x_t, T)
    assert_close(denoised.x0, images["x0"], rtol=1e-3, atol=1e-3)
    assert denoised.w is None


def test_image_prediction_passes_the_estimate_on(images: dict[str, Tensor]) -> None:
    frames = torch.cat((images["y"], images["x_E"]), dim=1)  # several cloudy frames
    denoised = x0_denoiser(lambda x, t: x[:, 3:6] - x[:, :3], frames)(images["x_t"], T)
    assert torch.equal(denoised.x0, images["y"] - images["x_t"])


def test_half_precision_networks_give_estimates_in_the_precision_of_x_t(images: dict[str, Tensor]) -> None:
    def half(x: Tensor, t: Tensor) -> Tensor:
        return x[:, :3].bfloat16()

    estimate = fused(eps_denoiser(half, linear(), images["y"]), half, images["y"], images["x_E"])(images["x_t"], T)
    assert {image.dtype for image in estimate if image is not None} == {torch.float32}


def test_fusion_weighs_by_pixel_and_band(images: dict[str, Tensor]) -> None:
    w = torch.rand(2, 3, 4, 5) * 0.7 + 0.3
    x_t, y, x_E, x0 = images["x_t"], images["y"], images["x_E"], images["x0"]

    def wa(x: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(x, torch.cat((x_t, y, x_E), dim=1))
        assert torch.equal(t, T)
        return w

    denoised = fused(lambda x_t, t: Denoised(x0), wa, y, x_E)(x_t, T)
    assert_close(denoised.x0, (1 - w) * x0 + w * x_E)
    assert torch.equal(denoised.w, w)
    assert torch.equal(denoised.x0_eps, x0)


@pytest.mark.parametrize(
    ("floor", "raw", "used"), [(0.3, -2.0, 0.3), (0.3, 0.6, 0.6), (0.3, 1.7, 1.0), (0.0, -1.0, 0.0)]
)
def test_weights_are_clamped_to_the_floor_and_1(
    images: dict[str, Tensor], floor: float, raw: float, used: float
) -> None:
    x_E, x0 = images["x_E"], images["x0"]
    denoise = fused(
        lambda x_t, t: Denoised(x0), lambda x, t: torch.full_like(x0, raw), images["y"], x_E, Weighing(floor)
    )
    denoised = denoise(images["x_t"], T)
    assert torch.equal(denoised.w, torch.full_like(x0, used))
    assert_close(denoised.x0, (1 - used) * x0 + used * x_E)


def test_weights_are_unbounded_in_training(images: dict[str, Tensor]) -> None:
    x_E, x0 = images["x_E"], images["x0"]
    denoise = fused(
        lambda x_t, t: Denoised(x0), lambda x, t: torch.full_like(x0, 1.5), images["y"], x_E, Weighing(None)
    )
    assert_close(denoise(images["x_t"], T).x0, 1.5 * x_E - 0.5 * x0)


def test_a_weight_of_one_is_the_reference_prior_to_the_bit(images: dict[str, Tensor]) -> None:
    denoise = fused(lambda x_t, t: Denoised(images["x0"]), lambda x, t: x[:, :3] * 0 + 1, images["y"], images["x_E"])
    assert torch.equal(denoise(images["x_t"], T).x0, images["x_E"])


@pytest.mark.parametrize(("floor", "ceiling", "expected"), [(0.3, 0.98, 0.98), (0.3, 1.0, 1.0), (0.9, 0.5, 0.9)])
def test_weights_are_clamped_to_the_ceiling_unless_the_floor_is_above(
    images: dict[str, Tensor], floor: float, ceiling: float, expected: float
) -> None:
    x0, x_E = images["x0"], images["x_E"]
    denoise = fused(
        lambda x_t, t: Denoised(x0), lambda x, t: torch.full_like(x0, 1.5), images["y"], x_E, Weighing(floor, ceiling)
    )
    torch.testing.assert_close(denoise(images["x_t"], T).w, torch.full_like(x0, expected))


@pytest.mark.parametrize("floor", [-0.1, 1.01, float("nan")])
def test_a_floor_outside_0_1_is_refused(images: dict[str, Tensor], floor: float) -> None:
    with pytest.raises(UsageError, match="weight floor"):
        fused(lambda x_t, t: Denoised(x_t), lambda x, t: x, images["y"], images["x_E"], Weighing(floor))


def test_weights_fall_where_the_estimates_lie_apart() -> None:
    x_E, y = torch.zeros(1, 3, 9, 200), torch.zeros(1, 3, 9, 200)
    x0 = torch.cat((torch.full((1, 3, 9, 100), 0.02), torch.full((1, 3, 9, 100), 0.3)), dim=-1)
    denoise = fused(lambda x_t, t: Denoised(x0), lambda x, t: torch.full_like(x0, 0.5), y, x_E, Weighing(0.8, 1, 0.1))
    w = denoise(torch.zeros_like(x0), T[:1]).w
    assert w is not None
    assert_close(w[..., :80], torch.full_like(w[..., :80], 0.8), atol=1e-4, rtol=0)
    assert (w[..., 120:] < 1e-3).all()
    assert (w.diff(dim=-1) <= 1e-6).all()  # without a seam between the two


@pytest.mark.parametrize(("apart", "expected"), [(0.0, 1.0), (0.05, 1 / (1 + 2**-8)), (0.1, 0.5), (0.2, 1 / 257)])
def test_agreement_is_a_half_at_the_tolerance(apart: float, expected: float) -> None:
    bands = apart * torch.tensor([1.0, -1.0, 1.0])[:, None, None]  # whatever the sign
    found = agreement(bands.expand(2, 3, 40, 50), torch.zeros(2, 3, 40, 50), 0.1)
    assert found.shape == (2, 1, 40, 50)
    assert_close(found, torch.full_like(found, expected))

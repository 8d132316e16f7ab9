"""What the CNP's output means, and that training and sampling agree on it."""

import pytest
import torch

from unclouded.models.de import DE, DEConfig
from unclouded.models.unet import UNetConfig
from unclouded.training.stages import _ddpm, _Noised

SMALL = {"channels": 8, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1}


@pytest.mark.parametrize("prediction", ["eps", "x0", "residual", "refinement"])
def test_training_and_sampling_mean_the_same_estimate(prediction: str) -> None:
    torch.manual_seed(0)
    model = DE(DEConfig(prior=None, wa=None, cnp=UNetConfig(6, 3, **SMALL), prediction=prediction)).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(list(model.cnp.parameters())[-1])
    y, x0 = torch.rand(2, 2, 3, 16, 16)
    noised = _Noised(model, y, x0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        learned = _ddpm(model, noised)[1]
        sampled = model.predictor(2 * y - 1)(noised.x_t, noised.t).x0
    torch.testing.assert_close(sampled, learned)


def test_a_residual_of_nothing_is_the_cloudy_image() -> None:
    config = DEConfig(prior=None, wa=None, cnp=UNetConfig(6, 3, **SMALL), prediction="residual")  # type: ignore[arg-type]
    model = DE(config).eval()  # the U-Net's last convolution starts at zero
    y, x_t = torch.rand(2, 1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.predictor(y)(x_t, torch.tensor([500])).x0, y)


def test_a_refinement_of_nothing_is_the_reference_prior() -> None:
    config = DEConfig(prior=None, wa=None, cnp=UNetConfig(6, 3, **SMALL), prediction="refinement")  # type: ignore[arg-type]
    model = DE(config).eval()
    y, x_t, x_E = torch.rand(3, 1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.predictor(y, x_E)(x_t, torch.tensor([500])).x0, x_E)
        torch.testing.assert_close(model.predictor(y)(x_t, torch.tensor([500])).x0, y)


def test_a_refining_denoiser_begins_at_the_prior_and_not_at_the_cloudy_image() -> None:
    """What sampling and training both add the CNP's output to."""
    small = {"channels": [8, 16], "blocks": [1, 1]}
    wa = UNetConfig(9, 3, **SMALL, scale_shift=False)  # type: ignore[arg-type]
    cnp = UNetConfig(6, 3, **SMALL)  # type: ignore[arg-type]
    model = DE(DEConfig(prior="light", prior_options=small, cnp=cnp, wa=wa, prediction="refinement")).eval()
    y, x0, x_E = torch.rand(3, 1, 3, 16, 16)
    noised = _Noised(model, y, x0, torch.Generator().manual_seed(0), x_E)
    with torch.no_grad():
        sampled = model.denoiser(2 * y - 1, x_E)(noised.x_t, noised.t)
        torch.testing.assert_close(sampled.x0_eps, x_E)
        torch.testing.assert_close(_ddpm(model, noised)[1], x_E)

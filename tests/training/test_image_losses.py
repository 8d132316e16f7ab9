"""Losses of images mean what they say."""

import math

import numpy as np
import pytest
import torch

from unclouded.evaluation import metrics
from unclouded.training.image_losses import (
    AMPLIFIED,
    DETAIL_KEPT,
    detail_loss,
    log_mse,
    sharpness_loss,
    spread_loss,
    ssim_loss,
)


def test_the_priors_loss_is_psnr() -> None:
    """Up to a factor: the mean over the images of their PSNR, not the PSNR of their mean error."""
    b = torch.zeros(2, 3, 8, 8)
    a = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)])  # 20 and 40 dB
    assert float(log_mse(a, b, 0.0)) == pytest.approx(-0.015 * math.log(10) / 10 * 30)


def test_sharpness_asks_for_fine_structure_and_not_for_its_place() -> None:
    image = torch.rand(2, 3, 16, 16)
    assert sharpness_loss(image.flip(-1), image) < 1e-6
    assert sharpness_loss(image / 2, image) > 0.1


def test_detail_is_missed_only_below_that_of_the_prior() -> None:
    x_E = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert detail_loss(1.1 * x_E, x_E) == 0
    fused = (x_E.roll(1, -1) + x_E) / 2
    smoother = detail_loss(fused, x_E)
    assert smoother > 0.1
    assert detail_loss(torch.cat((1.1 * x_E[:1], fused[1:])), x_E) == pytest.approx(float(smoother) / 2, rel=0.1)
    equal = detail_loss(x_E, x_E) / detail_loss(torch.zeros_like(x_E), x_E)
    assert float(equal) == pytest.approx(1 - 1 / DETAIL_KEPT, abs=1e-3)


@pytest.mark.parametrize("bands", [2, 3])
def test_ssim_is_the_metrics_own(bands: int) -> None:
    a = torch.rand(2, bands, 40, 24)
    b = (a + 0.3 * torch.rand(2, bands, 40, 24)).clamp(0, 1)
    measured = [metrics.ssim(*(metrics.luma(x.numpy())[None] for x in pair), 1.0) for pair in zip(a, b, strict=True)]
    assert float(ssim_loss(a, b)) == pytest.approx(1 - np.mean(measured), abs=1e-5)


def test_spread_is_least_where_samples_differ_as_the_mean_errs() -> None:
    noise = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.02, 0.2])[:, None]  # errors of two kinds of pixels
    error, first, second = (torch.randn(2, 100_000, generator=noise) for _ in range(3))

    def loss(deviation: torch.Tensor) -> float:
        a, b = (deviation / AMPLIFIED * sample for sample in (first, second))
        return float(spread_loss(a, b, (a + b) / 2 - scale * error))

    calibrated = loss(scale)
    for other in (0.8 * scale, 1.25 * scale, scale.flip(0), scale.mean().expand(2, 1), 0 * scale):
        assert loss(other) > calibrated
    a, b, x0 = (torch.rand(2, 3, 8, 8, requires_grad=name != 2) for name in range(3))
    spread_loss(a, b, x0).backward()
    assert torch.equal(a.grad, -b.grad)  # type: ignore[arg-type, operator]  # their mean stays where it is

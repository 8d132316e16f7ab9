"""Metrics agree with scikit-image and torchmetrics, and obey the laws that follow from their definitions."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation import metrics

SHAPES = [(3, 64, 64), (3, 37, 91), (1, 11, 11), (4, 40, 23), (13, 16, 16)]


def images(shape: tuple[int, ...], dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sum(shape))
    clear = np.clip(np.cumsum(rng.normal(0, 12, shape), axis=-1) + 128, 0, 255)
    restored = np.clip(clear + rng.normal(4, 9, shape), 0, 255)
    if dtype == "uint8":
        return restored.astype(np.uint8), clear.astype(np.uint8)
    return restored / 255, clear / 255


@pytest.mark.parametrize("shape", SHAPES)
def test_psnr_is_scikit_images(shape):
    a, b = images(shape)
    assert metrics.psnr_uint8(a, b) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=255), abs=1e-6)
    a, b = images(shape, "float")
    assert metrics.psnr(a, b, 1.0) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1.0), abs=1e-6)


def oracle_ssim(a: np.ndarray, b: np.ndarray, peak: float) -> float:
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": peak}
    return float(np.mean([structural_similarity(x, y, **options) for x, y in zip(a, b, strict=True)]))


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_scikit_images(shape):
    a, b = images(shape, "float")
    assert metrics.ssim(a, b, 1.0) == pytest.approx(oracle_ssim(a, b, 1.0), abs=1e-6)
    a, b = images(shape)
    weights = np.array([0.299, 0.587, 0.114])
    if shape[0] == 3:
        expected = oracle_ssim(*(np.einsum("c,chw->hw", weights, x)[None] for x in (a, b)), 255)
    else:
        expected = oracle_ssim(a.astype(float), b.astype(float), 255)
    assert metrics.ssim_luma(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[0] > 1])
def test_sam_and_ergas_are_torchmetrics(shape):
    from torchmetrics.functional.image import error_relative_global_dimensionless_synthesis, spectral_angle_mapper

    a, b = images(shape, "float")
    a, b = a + 0.01, b + 0.01  # no black pixel, which the oracle cannot take
    x, y = torch.from_numpy(a)[None], torch.from_numpy(b)[None]
    assert np.radians(metrics.sam(a, b)) == pytest.approx(float(spectral_angle_mapper(x, y)), abs=1e-6)
    expected = float(error_relative_global_dimensionless_synthesis(x, y, ratio=4))
    assert metrics.ergas(a, b, ratio=4) == pytest.approx(expected, rel=1e-6)


def test_sam_sees_colour_and_not_brightness():
    a = np.zeros((3, 4, 4))
    a[0] = 0.5
    b = a[[1, 0, 2]]
    assert metrics.sam(0.3 * a, a) == pytest.approx(0, abs=1e-5)
    assert metrics.sam(b, a) == pytest.approx(90)
    a[:, 0, 0] = 0  # a black pixel has no angle and does not count
    assert metrics.sam(b, a) == pytest.approx(90)
    assert np.isnan(metrics.sam(a, np.zeros_like(a)))


def test_closed_forms():
    clear = np.full((3, 12, 12), 100, np.uint8)
    assert metrics.psnr_uint8(clear, clear) == float("inf")
    assert metrics.psnr_uint8(clear + 1, clear) == pytest.approx(20 * np.log10(255))
    assert metrics.ssim_luma(clear, clear) == pytest.approx(1)
    assert metrics.mae(clear + 3, clear) == 3
    assert metrics.ergas(clear + 10, clear) == pytest.approx(10)
    shifted = clear.astype(float)
    shifted[1] -= 7
    np.testing.assert_allclose(metrics.bias(shifted, clear), [0, -0.07, 0])
    assert np.isnan(metrics.bias(shifted, 0 * shifted)).all()


def test_gradient_ratio_tells_blur_from_sharpness():
    rng = np.random.default_rng(0)
    clear = rng.random((3, 32, 32))
    assert metrics.gradient_ratio(0.5 * clear, clear) == pytest.approx(0.25)
    assert metrics.gradient_ratio((clear + np.roll(clear, 1, axis=2)) / 2, clear) < 0.9
    assert np.isnan(metrics.gradient_ratio(clear, np.ones((3, 32, 32))))


def test_a_mask_restricts_every_metric_to_its_pixels():
    a, b = images((3, 40, 50), "float")
    mask = np.zeros((40, 50), bool)
    mask[5:20, 7:31] = True
    a[:, ~mask] = 0  # must not matter
    part = (slice(None), slice(5, 20), slice(7, 31))
    for metric in (metrics.mae, metrics.sam, metrics.ergas, metrics.bias):
        np.testing.assert_allclose(metric(a, b, mask), metric(a[part], b[part]))
    assert metrics.psnr(a, b, 1.0, mask) == pytest.approx(metrics.psnr(a[part], b[part], 1.0))
    everywhere = np.ones_like(mask)
    assert metrics.ssim(a, b, 1.0, everywhere) == pytest.approx(metrics.ssim(a, b, 1.0))
    with pytest.raises(UncloudedError, match="no pixel"):
        metrics.mae(a, b, np.zeros_like(mask))


def test_the_paper_protocol_measures_bytes():
    a, b = images((3, 30, 30))
    values = metrics.paper(a / 255, b / 255)
    assert values["psnr"] == metrics.psnr_uint8(a, b)
    assert values["ssim"] == metrics.ssim_luma(a, b)
    assert metrics.paper(a / 255 + 0.4 / 255, b / 255)["psnr"] == values["psnr"]  # rounding is part of the protocol
    assert metrics.standard(a / 255 + 0.4 / 255, b / 255)["psnr"] != metrics.standard(a / 255, b / 255)["psnr"]
    assert metrics.paper(b / 255, b / 255)["psnr"] == metrics.PSNR_CAP


def test_what_cannot_be_measured_is_said():
    with pytest.raises(UncloudedError, match="at least 11x11 pixels, not 30x8"):
        metrics.ssim(np.zeros((1, 8, 30)), np.zeros((1, 8, 30)), 1.0)
    with pytest.raises(UsageError, match="uint8"):
        metrics.psnr_uint8(np.zeros((3, 4, 4)), np.zeros((3, 4, 4)))
    with pytest.raises(UsageError, match="paper, standard"):
        metrics.protocol("lpips")

"""Losses of images, beyond the papers' own (diffusion/losses.py): of [B, C, H, W] and the truth, each a scalar."""

import torch
from torch import Tensor

from unclouded.evaluation.metrics import LUMA, WINDOW_RADIUS, WINDOW_SIGMA
from unclouded.models.norm import uncast

AMPLIFIED = 20.0  # times the deviation of two samples is what `spread_loss` takes for that of the error
DETAIL_KEPT = 1.03  # times the prior's root mean square gradient is what `detail_loss` asks for


def log_mse(a: Tensor, b: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Mean over the images of ln MSE: PSNR itself, up to sign and factor, so that an image with a large error weighs no
    more than others (Chen et al. 2022, arXiv 2204.04676). For an RMS error of 0.03 its slope is L1's."""
    mse = (a - b).square().mean(dim=(-3, -2, -1))
    return 0.015 * (mse + epsilon).log().mean()


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between the horizontal and vertical differences: asks for the edges, not only for the mean."""
    loss = a.new_zeros(())
    for dim in (-2, -1):
        loss = loss + (a.diff(dim=dim) - b.diff(dim=dim)).abs().mean()
    return loss


def ssim_loss(a: Tensor, b: Tensor) -> Tensor:
    """1 − SSIM of the luma (of other than three bands: of their mean), as the protocol `paper` measures it; images in
    [0, 1]."""
    with uncast(a):  # differences of squares need their digits
        a, b = _luma(a.float()), _luma(b.float())
        rows, cols = (_windows(size, a) for size in a.shape[-2:])
        mu_a, mu_b, aa, bb, ab = rows @ torch.stack((a, b, a * a, b * b, a * b)) @ cols.T
        c1, c2 = 0.01**2, 0.03**2
        structure = (2 * (ab - mu_a * mu_b) + c2) / (aa - mu_a**2 + bb - mu_b**2 + c2)
        similarity: Tensor = structure * (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1)
        return 1 - similarity.mean()


def _luma(x: Tensor) -> Tensor:
    return torch.einsum("bchw,c->bhw", x, x.new_tensor(LUMA)) if x.shape[1] == len(LUMA) else x.mean(dim=1)


def _windows(size: int, like: Tensor) -> Tensor:
    """[size − 10, size]: row i times an image's rows is their Gaussian mean around row i + 5."""
    offsets = torch.arange(size) - torch.arange(WINDOW_RADIUS, size - WINDOW_RADIUS)[:, None]
    weights = torch.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2) * (offsets.abs() <= WINDOW_RADIUS)
    return (weights / weights.sum(dim=1, keepdim=True)).to(like)


def sharpness_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between the root mean square gradients of each image: asks for as much fine structure, not for its place."""
    return (_rms_gradient(a) - _rms_gradient(b)).abs().mean()


def detail_loss(fused: Tensor, x_E: Tensor) -> Tensor:
    """By how much the root mean square gradient of a fused image falls below that of the reference prior's, with a
    margin: a mean of two estimates is smoother than either, unless one of them makes up for it."""
    return (DETAIL_KEPT * _rms_gradient(x_E) - _rms_gradient(fused)).clamp(min=0).mean()


def _rms_gradient(x: Tensor) -> Tensor:
    down, right = (x.diff(dim=dim).square().mean(dim=(-3, -2, -1)) for dim in (-2, -1))
    return torch.sqrt(down + right + 1e-8)


def spread_loss(a: Tensor, b: Tensor, x0: Tensor, amplified: float = AMPLIFIED) -> Tensor:
    """Asks two samples to differ where, and in proportion as, their mean is wrong: the CRPS of the clear image under a
    normal distribution around that mean, whose deviation is the samples' times `amplified`, so that a single sample
    loses next to nothing. The mean itself learns nothing from it.

    For d and d' normal and independent, E|e − d| − E|d − d'| / 2 (Gneiting & Raftery 2007, eq. 21) is
    E|e − d| − E|d| / √2; here d, of random sign, is the amplified distance of the samples.
    """
    error = ((a + b) / 2).detach() - x0
    d = amplified * (a - b) / 2**0.5
    return (((error + d).abs() + (error - d).abs()) / 2 - d.abs() / 2**0.5).mean()

"""Eq. 7, 16 and 17 by hand, and where their gradients go."""

import torch
from torch import Tensor
from torch.testing import assert_close

from unclouded.diffusion.losses import l_ddpm, l_joint, l_wa


def image(value: float, grad: bool = False) -> Tensor:
    return torch.full((2, 3, 4, 4), value, requires_grad=grad)


def test_values_by_hand() -> None:
    assert_close(l_ddpm(image(0.5), image(-1.0)), torch.tensor(2.25))
    # fused = 0.75 · 0.4 + 0.25 · 0.8 = 0.5
    assert_close(l_wa(image(0.2), image(0.4), image(0.8), image(0.25)), torch.tensor(0.3))
    assert_close(l_joint(torch.tensor(2.0), torch.tensor(0.3)), torch.tensor(2.3))
    assert_close(l_joint(torch.tensor(2.0), torch.tensor(0.3), lam=0.5), torch.tensor(1.3))


def test_weight_allocation_does_not_teach_the_noise_predictor() -> None:
    x0_eps, w = image(0.4, grad=True), image(0.25, grad=True)
    l_wa(image(0.2), x0_eps, image(0.8), w).backward()
    assert x0_eps.grad is None
    # d|x0 − fused|/dW = x_E − x0_eps where the fused image is too bright, a mean over 96 values
    assert_close(w.grad, image(0.4 / 96))


def test_joint_loss_teaches_both() -> None:
    eps_hat, w = image(0.1, grad=True), image(0.25, grad=True)
    l_joint(l_ddpm(image(0.0), eps_hat), l_wa(image(0.2), eps_hat, image(0.8), w)).backward()
    assert_close(eps_hat.grad, image(2 * 0.1 / 96))  # eq. 7 alone
    assert w.grad is not None
    assert w.grad.abs().min() > 0

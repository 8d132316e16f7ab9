"""Training losses (Sui et al. 2024, arXiv 2401.15105, eq. 7, 16, 17). Each is a mean over pixels, bands and images."""

from torch import Tensor


# Eq. 7: L_DDPM = ‖ε − ε̂_θ(x_t, t, y)‖²
def l_ddpm(eps: Tensor, eps_hat: Tensor) -> Tensor:
    """How far the predicted noise is from the true one; both [B, C, H, W]; a scalar."""
    return (eps - eps_hat).square().mean()


# Eq. 16: L_WA = |x0 − [(1 − W) ⊙ sg(x_{0,ε,t}) + W ⊙ x_{0,E}]|
def l_wa(x0: Tensor, x0_eps: Tensor, x_E: Tensor, w: Tensor) -> Tensor:
    """How far the fused image is from the clear one; all [B, C, H, W]; a scalar. No gradient reaches the CNP (sg)."""
    return (x0 - ((1 - w) * x0_eps.detach() + w * x_E)).abs().mean()


# Eq. 17: L_joint = λ L_DDPM + L_WA
def l_joint(ddpm: Tensor, wa: Tensor, lam: float = 1.0) -> Tensor:
    """The two losses together, as in the third stage of training; λ = 1 in the paper."""
    return lam * ddpm + wa

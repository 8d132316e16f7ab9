"""One adversarial training step for every GAN: pix2pix, SpA-GAN, AMGAN-CR, MSDA-CR.

Goodfellow et al. 2014 (arXiv 1406.2661); conditional on the cloudy image as in Isola et al., CVPR 2017. Generator and
discriminator are updated together from one set of loss terms whose gradients do not mix: the generator's term sees the
discriminator as a constant, the discriminator's term sees the generated image as a constant. So one optimizer, one loop
and one checkpoint serve GANs like any other network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from unclouded.errors import UsageError
from unclouded.models.discriminators import PatchGAN

Losses = dict[str, Tensor]
Features = Callable[[Tensor], Tensor]


class Generator(Protocol):
    """What a prior offers in order to be trained adversarially."""

    def restore(self, y: Tensor) -> tuple[Tensor, Any]:
        """The restored image, unclamped, and what the losses need besides (attention maps)."""
        ...

    def content_losses(self, y: Tensor, x0: Tensor, x: Tensor, extra: Any) -> Losses:
        """The paper's terms that need no discriminator, each with its weight."""
        ...


@dataclass(frozen=True)
class Adversarial:
    """How one method plays: the kind of adversarial loss, its weight, and the weight of a perceptual term."""

    loss: Literal["log", "least-squares"] = "log"
    weight: float = 1.0
    perceptual: float = 0.0


# The papers' rows; weights that a paper does not state follow pix2pix (adversarial 1, L1 100).
METHODS = {
    "pix2pix": Adversarial(),
    "spagan": Adversarial(),
    "amgan": Adversarial(),
    "msda": Adversarial("least-squares", weight=0.01, perceptual=0.04),
}


# log: E[log D(y, x0)] + E[log(1 − D(y, x))], D as logits; least squares: Mao et al. 2017 (arXiv 1611.04076)
def l_judged(logits: Tensor, real: bool, loss: str) -> Tensor:
    """How far the discriminator's verdict is from "real" or from "made"."""
    target = torch.full_like(logits, float(real))
    if loss == "least-squares":
        return F.mse_loss(logits, target)
    return F.binary_cross_entropy_with_logits(logits, target)


class AdversarialStep(nn.Module):
    """forward(y, x0) -> loss terms; their sum is to be lowered for all parameters of this module at once.

    `perceptual` maps images [B, bands, H, W] in [0, 1] to features; its parameters do not learn.
    """

    def __init__(
        self, generator: nn.Module, method: Adversarial, discriminator: nn.Module, perceptual: Features | None = None
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.method = method
        self._perceptual = (perceptual,)  # in a tuple: a constant, not a part that learns or is saved

    def forward(self, y: Tensor, x0: Tensor) -> Losses:
        generator = cast(Generator, self.generator)
        x, extra = generator.restore(y)
        losses = generator.content_losses(y, x0, x, extra)
        features = self._perceptual[0]
        if self.method.perceptual and features is not None:
            losses["perceptual"] = self.method.perceptual * F.mse_loss(features(x), features(x0).detach())
        losses["adversarial"] = self.method.weight * l_judged(self._constant(y, x), True, self.method.loss)
        real, made = self.discriminator(y, x0), self.discriminator(y, x.detach())
        losses["discriminator"] = (l_judged(real, True, self.method.loss) + l_judged(made, False, self.method.loss)) / 2
        return losses

    def _constant(self, y: Tensor, x: Tensor) -> Tensor:
        """The discriminator's verdict on x, through which only x gets a gradient (and no running statistic moves)."""
        state = {name: tensor.detach() for name, tensor in self.discriminator.named_parameters()}
        buffers = {name: tensor.clone() for name, tensor in self.discriminator.named_buffers()}
        return cast(Tensor, functional_call(self.discriminator, {**state, **buffers}, (y, x)))


def adversarial_step(
    name: str, generator: nn.Module, bands: int, perceptual: Features | None = None
) -> AdversarialStep:
    """The step for the prior `name` with a fresh discriminator.

    Without `perceptual` features (training.perceptual) the perceptual term of MSDA-CR is left out; `export.notes` says
    so when training starts and in the card. Raises UsageError for a method that is not adversarial.
    """
    if name not in METHODS:
        raise UsageError(f"The prior {name!r} is not trained adversarially. Choose one of: {', '.join(METHODS)}.")
    return AdversarialStep(generator, METHODS[name], PatchGAN(bands), perceptual)

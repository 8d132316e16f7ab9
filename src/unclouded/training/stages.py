"""What each stage of training teaches, and by which loss (Sui et al. 2024, section IV).

prior: E alone (the only stage of an end-to-end network) · coarse: the CNP on images resized to a quarter · weights: WA
at full size, CNP and E frozen · joint: CNP and WA · diffcr: DiffCR's one network.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unclouded.diffusion.losses import l_ddpm, l_wa
from unclouded.models.de import DE
from unclouded.models.end_to_end import EndToEnd
from unclouded.training.adversarial import METHODS, AdversarialStep, adversarial_step
from unclouded.training.diffcr import l_diffcr
from unclouded.training.image_losses import detail_loss, gradient_loss, log_mse, sharpness_loss, spread_loss, ssim_loss
from unclouded.training.perceptual import load as perceptual_features
from unclouded.training.values import Stage, StageName

Losses = dict[str, Tensor]

# stage -> the parts of the model that learn in it; all others stay as they are
TRAINS: dict[StageName, tuple[str, ...]] = {
    "prior": ("prior",),
    "coarse": ("cnp",),
    "weights": ("wa",),
    "joint": ("cnp", "wa"),
    "diffcr": ("network",),
}
CONFIGURED = ("prior", "coarse", "weights", "joint")  # stages whose losses depend on their settings
PLAIN = Stage(steps=1, batch_size=1)  # the paper's settings
OF_ESTIMATE = {"log_mse": log_mse, "gradient": gradient_loss, "ssim": ssim_loss}  # of the CNP alone, if named
OF_FUSED = {"log_mse": log_mse, "gradient": gradient_loss, "sharpness": sharpness_loss}  # in [−1, 1], if named


def l_prior(model: DE | EndToEnd, y: Tensor, x0: Tensor, generator: torch.Generator, settings: Stage = PLAIN) -> Losses:
    """E(y) against the clear image, both in [0, 1]; also by SSIM, where the stage's loss_weights name it. A prior with
    a loss of its own paper's states it as `training_losses`."""
    _seed(generator)
    y = _optical(model, y)
    own: Callable[[Tensor, Tensor], Losses] | None = getattr(model.prior, "training_losses", None)
    if own is not None:
        return own(y, x0)
    assert model.prior is not None, "the stage 'prior' needs a reference prior"
    x_E = model.prior(y)
    losses = {"log_mse": log_mse(x_E, x0), "gradient": gradient_loss(x_E, x0)}
    return losses | ({"ssim": ssim_loss(x_E, x0)} if "ssim" in settings.loss_weights else {})


def _optical(model: DE | EndToEnd, y: Tensor) -> Tensor:
    """What the prior sees of y: the dates as one image."""
    return model.optical(y) if isinstance(model, DE) else y


def _seed(generator: torch.Generator) -> None:
    """Dropout and latent draws inside a prior follow the step's generator, so that resuming repeats them."""
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))


class _Noised:
    """x_t of eq. 4 at random t, with what it was made of; images in [-1, 1].

    A share `from_prior` of the batch is noised from x_E instead of x0. That is what the networks meet when they sample:
    an x_t which knows no more than the reference prior did (ours; exposure bias, Ning et al. 2023, arXiv 2301.11706).
    t is T·u^t_power, u uniform: above 1, more of the small t where sampling after a warm start takes place.
    """

    def __init__(
        self,
        model: DE,
        y: Tensor,
        x0: Tensor,
        generator: torch.Generator,
        x_E: Tensor | None = None,
        settings: Stage = PLAIN,
    ) -> None:
        self.y, self.x0, self.x_E = model.condition(2 * y - 1), 2 * x0 - 1, x_E
        self.schedule = model.schedule
        u = torch.rand(len(y), generator=generator)
        self.t = (model.schedule.T * u**settings.t_power).long().to(y.device)
        eps = self._draw(generator)
        self.origin = self.x0
        if x_E is not None and settings.from_prior:
            swapped = torch.rand(len(y), generator=generator).to(x0) < settings.from_prior
            self.origin = torch.where(swapped[:, None, None, None], x_E, self.x0)
        self._noise(eps)

    def renoise(self, generator: torch.Generator) -> None:
        """Another ε on the same images at the same t."""
        self._noise(self._draw(generator))

    def _draw(self, generator: torch.Generator) -> Tensor:
        return torch.randn(self.x0.shape, generator=generator).to(self.x0)

    def _noise(self, eps: Tensor) -> None:
        self.eps, self.x_t = eps, self.schedule.add_noise(self.origin, eps, self.t)


def _ddpm(model: DE, batch: _Noised) -> tuple[Tensor, Tensor]:
    """(eq. 7, or ‖x0 − x̂0‖² for a CNP that aims at x0; x_{0,ε,t} of eq. 9)"""
    out = model.cnp(torch.cat((batch.x_t, batch.y), dim=1), batch.t).float()
    if model.config.prediction == "eps":
        return l_ddpm(batch.eps, out), model.schedule.x0_from_eps(batch.x_t, out, batch.t)
    x0_eps = model.anchor(batch.y, batch.x_E) + out
    return F.mse_loss(x0_eps, batch.x0), x0_eps


def _weights(model: DE, batch: _Noised, x_E: Tensor) -> Tensor:
    """W of eq. 11, unclamped as in the paper's training."""
    assert model.wa is not None, "the stages 'weights' and 'joint' need a weight-allocation network"
    w: Tensor = model.wa(torch.cat((batch.x_t, batch.y, x_E), dim=1), batch.t)
    return w.float()


def _reference(model: DE, y: Tensor) -> Tensor:
    with torch.no_grad():
        x_E = model.reference(y)
        x_E = None if x_E is None else x_E.float()
    assert x_E is not None, "the stages 'weights' and 'joint', and a CNP that refines, need a reference prior"
    return 2 * x_E - 1


def l_coarse(model: DE, y: Tensor, x0: Tensor, generator: torch.Generator, settings: Stage = PLAIN) -> Losses:
    """Also, where the stage's loss_weights name them, the losses of images of x_{0,ε,t}, in [0, 1] as the prior's."""
    x_E = _reference(model, y) if model.config.prediction == "refinement" else None
    ddpm, x0_eps = _ddpm(model, _Noised(model, y, x0, generator, x_E, settings))
    named = {term: loss for term, loss in OF_ESTIMATE.items() if term in settings.loss_weights}
    return {"ddpm": ddpm} | {term: loss(x0_eps / 2 + 0.5, x0) for term, loss in named.items()}


def l_weights(model: DE, y: Tensor, x0: Tensor, generator: torch.Generator, settings: Stage = PLAIN) -> Losses:
    x_E = _reference(model, y)
    batch = _Noised(model, y, x0, generator, x_E, settings)
    with torch.no_grad():
        x0_eps = _ddpm(model, batch)[1]
    return {"wa": l_wa(batch.x0, x0_eps, x_E, _weights(model, batch, x_E))}


# Eq. 17: L_joint = λ L_DDPM + L_WA; λ is the factor of "ddpm" in the stage's loss_weights
def l_joint_terms(model: DE, y: Tensor, x0: Tensor, generator: torch.Generator, settings: Stage = PLAIN) -> Losses:
    """Also, where the stage's loss_weights name them, the losses of OF_FUSED, the detail beside the prior's and the
    spread of two samples, which teach both networks (ours): of the image as sampling fuses it, where W is at most 1."""
    x_E = _reference(model, y)
    batch = _Noised(model, y, x0, generator, x_E, settings)
    ddpm, x0_eps = _ddpm(model, batch)
    w = _weights(model, batch, x_E)
    losses = {"ddpm": ddpm, "wa": l_wa(batch.x0, x0_eps, x_E, w)}
    fused = _fused(w, x0_eps, x_E)
    losses |= {term: loss(fused, batch.x0) for term, loss in OF_FUSED.items() if term in settings.loss_weights}
    if "detail" in settings.loss_weights:
        losses["detail"] = detail_loss(fused, x_E)
    if "spread" in settings.loss_weights:
        batch.renoise(generator)
        w, (_, x0_eps) = _weights(model, batch, x_E), _ddpm(model, batch)
        losses["spread"] = spread_loss(fused, _fused(w, x0_eps, x_E), batch.x0)
    return losses


def _fused(w: Tensor, x0_eps: Tensor, x_E: Tensor) -> Tensor:
    return torch.lerp(x0_eps, x_E, w.clamp(max=1))


LOSSES: dict[StageName, Callable[..., Losses]] = {  # (model, y, x0, generator[, settings]) -> loss terms
    "prior": l_prior,
    "coarse": l_coarse,
    "weights": l_weights,
    "joint": l_joint_terms,
    "diffcr": l_diffcr,
}


def _adversary(model: DE | EndToEnd, perceptual: str | None) -> AdversarialStep | None:
    """The step that trains the model's prior, if it is a GAN."""
    name = model.config.prior
    if name not in METHODS:
        return None
    features = perceptual_features(perceptual) if perceptual and METHODS[name].perceptual else None
    return adversarial_step(name, cast(nn.Module, model.prior), model.bands, features)


class StageModule(nn.Module):
    """The model as one stage trains it: forward(y, x0, step seed) -> loss terms; everything but its parts is frozen.

    Being one module with one forward is what lets Fabric wrap it for DDP and mixed precision.
    """

    def __init__(
        self, model: nn.Module, stage: StageName, perceptual: str | None = None, settings: Stage | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self.options = {"settings": settings} if settings and stage in CONFIGURED else {}
        self.adversary: AdversarialStep | None = None
        if stage == "prior":
            self.adversary = _adversary(cast(DE | EndToEnd, model), perceptual)
        model.requires_grad_(False).eval()
        for part in self.parts().values():
            part.requires_grad_(True).train()

    def parts(self) -> dict[str, nn.Module]:
        """The parts that learn, by name; a GAN's discriminator is one of them, though not of the model."""
        parts: dict[str, nn.Module] = {name: getattr(self.model, name) for name in TRAINS[self.stage]}
        dates = getattr(self.model, "dates", None)
        if dates is not None and self.stage == ("coarse" if self.model.prior is None else "prior"):
            parts["dates"] = dates  # they learn with the first network that sees them merged
        return parts if self.adversary is None else {**parts, "discriminator": self.adversary.discriminator}

    def forward(self, y: Tensor, x0: Tensor, generator: torch.Generator) -> Losses:
        if self.adversary is not None:
            _seed(generator)
            return cast(Losses, self.adversary(_optical(cast(DE | EndToEnd, self.model), y), x0))
        return LOSSES[self.stage](self.model, y, x0, generator, **self.options)

    def trained_state(self) -> dict[str, Any]:
        """The state of the parts that learn: what checkpoint and EMA hold."""
        return {name: part.state_dict() for name, part in self.parts().items()}

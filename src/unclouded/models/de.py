"""Diffusion enhancement: a reference prior E, a conditional noise predictor CNP and a weight-allocation network WA.

Sui et al., TGRS 2024 (arXiv 2401.15105), section IV and Table IV. Without prior and WA it is the pure conditional
diffusion model that the paper compares with.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from unclouded.diffusion.denoisers import Denoiser, eps_denoiser, fused, x0_denoiser
from unclouded.diffusion.schedule import SCHEDULES
from unclouded.models.registry import build_prior
from unclouded.models.unet import UNet, UNetConfig


class DEConfig(BaseModel):
    """Everything that shapes the networks. `prediction` is what the CNP's output means: the noise ε (the paper's), x0,
    or the residual x0 − y, which leaves the detail under thin cloud to y itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bands: int = Field(3, ge=1)
    prior: str | None = "msda"
    prior_options: dict[str, Any] = {}
    cnp: UNetConfig
    wa: UNetConfig | None
    schedule: Literal["linear", "cosine", "sigmoid"] = "linear"
    T: int = Field(1000, ge=1)
    prediction: Literal["eps", "x0", "residual"] = "eps"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.prior is None) != (self.wa is None):
            raise ValueError("a reference prior and a weight-allocation network come together")
        if (self.cnp.in_channels, self.cnp.out_channels) != (2 * self.bands, self.bands):
            raise ValueError(f"the CNP must take {2 * self.bands} channels and give {self.bands}")
        if self.wa and (self.wa.in_channels, self.wa.out_channels) != (3 * self.bands, self.bands):
            raise ValueError(f"WA must take {3 * self.bands} channels and give {self.bands}")
        return self


def paper_config(bands: int = 3, prior: str = "msda") -> DEConfig:
    """Table IV: 36.80 M parameters in CNP and WA at 3 bands."""
    return DEConfig(
        bands=bands,
        prior=prior,
        cnp=UNetConfig(2 * bands, bands, channels=96, multipliers=(1, 1, 2, 2, 3), attention=(4, 8), heads=4),
        wa=UNetConfig(3 * bands, bands, channels=64, multipliers=(1, 1, 2), attention=(4,), heads=1, scale_shift=False),
    )


class DE(nn.Module):
    """prior, cnp, wa and their schedule. See RestorationModel for the interface."""

    Config: ClassVar[type[BaseModel]] = DEConfig
    frames = 1

    def __init__(self, config: DEConfig) -> None:
        super().__init__()
        self.config = config
        self.bands = config.bands
        self.schedule = SCHEDULES[config.schedule](config.T)
        self.prior = build_prior(config.prior, bands=config.bands, **config.prior_options) if config.prior else None
        self.cnp = UNet(config.cnp)
        self.wa = UNet(config.wa) if config.wa else None
        self.multiple = max(self.cnp.multiple, self.wa.multiple if self.wa else 1)

    # (10) x_{0,E} = E(y)
    def reference(self, y: Tensor) -> Tensor | None:
        return self.prior(y) if self.prior else None

    # (9) the CNP's estimate of x0, (11)-(12) fused with the reference by WA
    def denoiser(self, y: Tensor, x_E: Tensor | None, weight_floor: float | None) -> Denoiser:
        predict = self.predictor(y)
        if self.wa is None or x_E is None:
            return predict
        return fused(predict, self.wa, y, x_E, weight_floor)

    def predictor(self, y: Tensor) -> Denoiser:
        """The CNP alone as a denoiser: pure conditional diffusion."""
        if self.config.prediction == "eps":
            return eps_denoiser(self.cnp, self.schedule, y)
        if self.config.prediction == "residual":
            return x0_denoiser(lambda inputs, t: y + self.cnp(inputs, t), y)
        return x0_denoiser(self.cnp, y)

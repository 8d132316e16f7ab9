"""Diffusion enhancement: a reference prior E, a conditional noise predictor CNP and a weight-allocation network WA.

Sui et al., TGRS 2024 (arXiv 2401.15105), section IV and Table IV. Without prior and WA it is the pure conditional
diffusion model that the paper compares with.

Beyond the paper, y may hold several cloudy dates, merged into one image that stands for y everywhere (DateMerge), and
Sentinel-1 bands, which CNP and WA see beside it; the prior stays what it is, optical image to optical image.
"""

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from torch import Tensor, nn

from unclouded.diffusion.denoisers import AS_PUBLISHED, Denoiser, Weighing, eps_denoiser, fused, x0_denoiser
from unclouded.diffusion.schedule import SCHEDULES
from unclouded.models.conditions import DateMerge, split_condition
from unclouded.models.light import LightCNP, LightConfig
from unclouded.models.registry import build_prior
from unclouded.models.unet import UNet, UNetConfig


def _kind(config: Any) -> str:
    light = "widths" in config if isinstance(config, dict) else hasattr(config, "widths")
    return "light" if light else "unet"


CNPConfig = Annotated[Annotated[UNetConfig, Tag("unet")] | Annotated[LightConfig, Tag("light")], Discriminator(_kind)]


class DEConfig(BaseModel):
    """Everything that shapes the networks. The CNP is a U-Net (the paper's) or a light network.

    `prediction` is what its output means: the noise ε (the paper's), x0, the residual x0 − y, which leaves the detail
    under thin cloud to y itself, or the refinement x0 − x_E, what the reference prior lacks (Whang et al. 2022, arXiv
    2112.02475; x0 − y where it is used without the prior). `frames` is the number of cloudy dates that the model is
    meant for, `sar` that of Sentinel-1 bands (VV, VH).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bands: int = Field(3, ge=1)
    frames: int = Field(1, ge=1)
    sar: Literal[0, 2] = 0
    prior: str | None = "msda"
    prior_options: dict[str, Any] = {}
    cnp: CNPConfig
    wa: UNetConfig | None
    schedule: Literal["linear", "cosine", "sigmoid"] = "linear"
    T: int = Field(1000, ge=1)
    prediction: Literal["eps", "x0", "residual", "refinement"] = "eps"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.prior is None) != (self.wa is None):
            raise ValueError("a reference prior and a weight-allocation network come together")
        cnp, wa = _inputs(self.bands, self.sar)
        if (self.cnp.in_channels, self.cnp.out_channels) != (cnp, self.bands):
            raise ValueError(f"the CNP must take {cnp} channels and give {self.bands}")
        if self.wa and (self.wa.in_channels, self.wa.out_channels) != (wa, self.bands):
            raise ValueError(f"WA must take {wa} channels and give {self.bands}")
        return self

    def taking(self, bands: int, frames: int, sar: Literal[0, 2]) -> "DEConfig":
        """The same networks for so many bands, cloudy dates and bands of Sentinel-1."""
        cnp, wa = _inputs(bands, sar)
        widths = {
            "cnp": replace(self.cnp, in_channels=cnp, out_channels=bands),
            "wa": self.wa and replace(self.wa, in_channels=wa, out_channels=bands),
        }
        return DEConfig.model_validate(dict(self) | widths | {"bands": bands, "frames": frames, "sar": sar})


def _inputs(bands: int, sar: int) -> tuple[int, int]:
    """Channels that the CNP takes (x_t, y, Sentinel-1) and WA (also x_E)."""
    return 2 * bands + sar, 3 * bands + sar


def paper_config(bands: int = 3, prior: str = "msda", frames: int = 1, sar: Literal[0, 2] = 0) -> DEConfig:
    """Table IV: 36.80 M parameters in CNP and WA at 3 bands."""
    cnp, wa = _inputs(bands, sar)
    return DEConfig(
        bands=bands,
        frames=frames,
        sar=sar,
        prior=prior,
        cnp=UNetConfig(cnp, bands, channels=96, multipliers=(1, 1, 2, 2, 3), attention=(4, 8), heads=4),
        wa=UNetConfig(wa, bands, channels=64, multipliers=(1, 1, 2), attention=(4,), heads=1, scale_shift=False),
    )


class DE(nn.Module):
    """prior, cnp, wa and their schedule; `dates` where there are several. See RestorationModel for the interface."""

    Config: ClassVar[type[BaseModel]] = DEConfig

    def __init__(self, config: DEConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.frames, self.sar = config.bands, config.frames, config.sar
        self.schedule = SCHEDULES[config.schedule](config.T)
        self.prior = build_prior(config.prior, bands=config.bands, **config.prior_options) if config.prior else None
        self.cnp = LightCNP(config.cnp) if isinstance(config.cnp, LightConfig) else UNet(config.cnp)
        self.wa = UNet(config.wa) if config.wa else None
        self.dates = DateMerge(config.bands) if config.frames > 1 else None
        self.multiple = max(self.cnp.multiple, self.wa.multiple if self.wa else 1)

    # (10) x_{0,E} = E(y)
    def reference(self, y: Tensor) -> Tensor | None:
        return self.prior(self.optical(y)) if self.prior else None

    # (9) the CNP's estimate of x0, (11)-(12) fused with the reference by WA
    def denoiser(self, y: Tensor, x_E: Tensor | None, weighing: Weighing = AS_PUBLISHED) -> Denoiser:
        predict = self.predictor(y, x_E)
        if self.wa is None or x_E is None:
            return predict
        return fused(predict, self.wa, self.condition(y), x_E, weighing)

    def predictor(self, y: Tensor, x_E: Tensor | None = None) -> Denoiser:
        """The CNP alone as a denoiser; without x_E pure conditional diffusion."""
        condition = self.condition(y)
        if self.config.prediction == "eps":
            return eps_denoiser(self.cnp, self.schedule, condition)
        anchor = self.anchor(condition, x_E)
        return x0_denoiser(lambda inputs, t: anchor + self.cnp(inputs, t), condition)

    def anchor(self, condition: Tensor, x_E: Tensor | None) -> Tensor | float:
        """What the CNP's output is added to, if it is not the noise."""
        if self.config.prediction == "x0":
            return 0.0
        return condition[:, : self.bands] if x_E is None or self.config.prediction == "residual" else x_E

    def optical(self, y: Tensor) -> Tensor:
        """The dates of y [B, N·bands + sar, H, W] in [0, 1] as one image [B, bands, H, W]: what the prior sees."""
        if self.dates is None and y.shape[1] == self.bands:
            return y
        dates, _ = split_condition(y, self.bands, self.sar)
        return self.dates(dates) if self.dates is not None else dates[:, 0]

    def condition(self, y: Tensor) -> Tensor:
        """What CNP and WA see of y in [−1, 1]: the dates as one image, and Sentinel-1, [B, bands + sar, H, W]."""
        if self.dates is None:
            return y
        _, radar = split_condition(y, self.bands, self.sar)
        return torch.cat((2 * self.optical(y / 2 + 0.5) - 1, radar), dim=1)

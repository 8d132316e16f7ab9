"""A restoration network on its own, without diffusion: the priors, used (and compared) as methods."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from unclouded.diffusion.denoisers import AS_PUBLISHED, Denoiser, Weighing
from unclouded.diffusion.schedule import Schedule
from unclouded.models.registry import build_prior


class EndToEndConfig(BaseModel):
    """`prior` is a name of the registry, `prior_options` what its constructor takes besides `bands`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bands: int = 3
    prior: str
    prior_options: dict[str, Any] = {}


class EndToEnd(nn.Module):
    """One evaluation restores the image: y [B, C, H, W] in [0, 1] -> the same, clear."""

    Config: ClassVar[type[BaseModel]] = EndToEndConfig
    schedule: Schedule | None = None
    multiple = 1
    frames = 1
    sar = 0

    def __init__(self, config: EndToEndConfig) -> None:
        super().__init__()
        self.config = config
        self.bands = config.bands
        self.prior = build_prior(config.prior, bands=config.bands, **config.prior_options)

    def reference(self, y: Tensor) -> Tensor:
        return self.prior(y)

    def denoiser(self, y: Tensor, x_E: Tensor | None, weighing: Weighing = AS_PUBLISHED) -> Denoiser:
        raise TypeError("an end-to-end model has no denoiser: its answer is reference(y)")

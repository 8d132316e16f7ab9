"""What a recipe and a run are: typed values, checked when made. The recipes stand in recipes.py and papers.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from unclouded.errors import UsageError
from unclouded.models.base import RestorationModel
from unclouded.models.de import DE, DEConfig
from unclouded.models.diffcr import DiffCR, DiffCRConfig
from unclouded.models.end_to_end import EndToEnd, EndToEndConfig
from unclouded.models.registry import construct
from unclouded.sampling import PAPER, Sampling
from unclouded.scenes.bands import BandSet
from unclouded.scenes.stretch import parse_stretch

StageName = Literal["prior", "coarse", "weights", "joint", "diffcr"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Value):
    """Where training pairs come from; `path` is relative to --data, `weight` its share of the draws.

    pairs: real pairs (a folder with cloud/ and label/ or cloudy/ and clear/, a manifest, or the layout of the known
    data set `dataset`, with its bad labels and leaks left out if `drop_leaks`); of them only those of `split`, and of
    these the `share` from a to b of a fixed order by a hash of the stem; the share `transplanted` of the examples has
    the cloud of a pair drawn at random, the share `varied` another scale, other colours and such a cloud of another
    thickness (training.cloud_layers) · clear: clear images (of the stems of `split`), clouded by the simulator; of
    each only the share `rows` of its height, so that a strip can be held out · landscapes: `count` generated ones,
    clouded likewise. With `clouds` the clouds of both are those of the pairs in that folder (of `clouds_split`),
    which are RGB. The share `cloudless` of both gets no cloud, the share `varied` other colours, and such clouds
    another scale and thickness. The share `contrast` of the clear images and landscapes is shown in a harder
    contrast. `channels` are the bands of the files (counted from 1) that are those of the recipe, in its order;
    without it the files have no others.
    clear: numbers of no known unit are shown between two percentiles of each band (`stretch`, as "p2-98"), sharpened
    by the panchromatic band in the file `pan` first · landscapes: of a ground sample distance out of `gsd` (m),
    `towns` (0 to 1) on more of the land than they would have by themselves.
    """

    kind: Literal["pairs", "clear", "landscapes"] = "pairs"
    path: str = "."
    dataset: str | None = None
    split: str | None = None
    channels: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    share: tuple[float, float] = (0.0, 1.0)
    drop_leaks: bool = False
    weight: float = Field(1.0, gt=0)
    rows: tuple[float, float] = (0.0, 1.0)
    stretch: str | None = None
    pan: str | None = None
    count: int = Field(24, ge=1)
    gsd: tuple[Annotated[float, Field(gt=0)], ...] = (1, 2, 5, 10)
    towns: float | None = Field(None, ge=0, le=1)
    cloudless: float = Field(0.0, ge=0, lt=1)
    transplanted: float = Field(0.0, ge=0, le=1)
    varied: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    clouds: str | None = None
    clouds_split: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field, kinds in _OF_KINDS.items():
            if self.kind not in kinds and getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"{field} is for the kind{'s' * (len(kinds) > 1)} {' and '.join(kinds)}")
        if self.stretch is not None:
            try:
                parse_stretch(self.stretch)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self


# fields of a Source that not every kind has -> the kinds that do
_OF_KINDS: dict[str, tuple[str, ...]] = {
    "transplanted": ("pairs",),
    "channels": ("pairs", "clear"),
    "stretch": ("clear",),
    "pan": ("clear",),
    "gsd": ("landscapes",),
    "towns": ("landscapes",),
    "clouds": ("clear", "landscapes"),
    "cloudless": ("clear", "landscapes"),
    "contrast": ("clear", "landscapes"),
}


class Stage(_Value):
    """One stage of training. `size` is the side of the square that the network sees; with `shrink` > 1 it is a crop of
    size·shrink pixels, averaged over shrink×shrink (the coarse stage sees images at a quarter of their resolution).

    The last `last_share` of the steps may see larger squares (`last_size`): small ones are many and varied, large ones
    are what the network will meet. The learning rate rises over `warmup` steps, stays, and falls linearly to zero over
    the last `decay` share of the steps. `from_prior` is the share of the examples whose x_t is noised from the
    reference prior's answer and not from the clear image, as at sampling after a warm start (stages weights and
    joint; coarse of a CNP that refines). Steps t are T·u^t_power, u uniform: above 1, more of the small t where a
    sampler with a warm start works. `shares` are the sources' shares of the draws in this stage, in place of their own
    `weight`.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    size: int = Field(256, ge=16)
    last_size: int | None = Field(None, ge=16)
    last_share: float = Field(0.0, ge=0, le=1)
    shrink: int = Field(1, ge=1)
    from_prior: float = Field(0.0, ge=0, le=1)
    t_power: float = Field(1.0, gt=0)
    lr: float = Field(1e-5, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(0, ge=0)
    decay: float = Field(0.0, ge=0, le=1)
    ema: float = Field(0.9999, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)
    loss_weights: dict[str, float] = {}  # factors of the loss terms, 1 where not named; joint has more of them if named
    validate_every: int = Field(2000, ge=1)
    shares: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    def size_at(self, step: int) -> int:
        """The side of the square that the network sees in this step (counted from 0)."""
        if self.last_size is None or step < (1 - self.last_share) * self.steps:
            return self.size
        return self.last_size


# losses that not every stage has -> the stages that do
WHERE: dict[str, tuple[StageName, ...]] = {
    "sharpness": ("joint",),
    "detail": ("joint",),
    "spread": ("joint",),
    "ssim": ("prior", "coarse"),
}

# method of a model card -> its model; the config tells them apart
METHODS = {"de": DE, "prior": EndToEnd, "diffcr": DiffCR}


def _method(config: Any) -> str:
    keys = config if isinstance(config, dict) else getattr(type(config), "model_fields", ())
    return "de" if "cnp" in keys else "diffcr" if "encoder_blocks" in keys else "prior"


ModelConfig = Annotated[
    Annotated[DEConfig, Tag("de")] | Annotated[EndToEndConfig, Tag("prior")] | Annotated[DiffCRConfig, Tag("diffcr")],
    Discriminator(_method),
]


class Recipe(_Value):
    """A model and how it is trained. `units` says what the numbers of `bands` are: values of 8-bit pictures, or
    reflectance (scenes.bands). `perceptual` is a file of VGG16 weights for the methods with a perceptual term
    (training.perceptual); without it the term is left out, and the card says so. `init` is the model to start from
    (training.fine_tune); without it, random weights."""

    name: str
    summary: str
    model: ModelConfig
    bands: tuple[str, ...] = ("red", "green", "blue")
    units: Literal["display", "reflectance"] = "display"
    sources: tuple[Source, ...] = Field(min_length=1)
    validation: tuple[Source, ...] = Field(min_length=1)
    validation_limit: int = Field(16, ge=1)
    stages: dict[StageName, Stage] = Field(min_length=1)
    sampling: Sampling = PAPER
    seed: int = Field(0, ge=0)
    perceptual: str | None = None
    init: str | None = None
    limits: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        moved = any(source.transplanted or source.varied for source in self.sources if source.kind == "pairs")
        if moved and (self.frames > 1 or self.sar):
            raise ValueError("transplanted clouds and varied pairs are for models of one date without Sentinel-1")
        if len(self.bands) != self.model.bands:
            raise ValueError(f"{len(self.bands)} bands are named for a model of {self.model.bands}")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"a band name appears twice in {', '.join(self.bands)}")
        for source in (*self.sources, *self.validation):
            if source.channels is not None and len(source.channels) != len(self.bands):
                raise ValueError(f"a source names {len(source.channels)} channels for the recipe's {len(self.bands)}")
        for name, stage in self.stages.items():
            if stage.shares is not None and (len(stage.shares) != len(self.sources) or not any(stage.shares)):
                raise ValueError(f"the stage {name} must name a share for each of the {len(self.sources)} sources")
            prediction = getattr(self.model, "prediction", "eps")
            sees_x_E = name in ("weights", "joint") or (name == "coarse" and prediction == "refinement")
            if stage.from_prior and (prediction == "eps" or not sees_x_E):
                raise ValueError(
                    f"from_prior is for the stages weights and joint of a CNP that predicts x0, not {name}"
                )
            for term, where in WHERE.items():
                if term in stage.loss_weights and name not in where:
                    raise ValueError(f"the loss {term} is for the stage {' and '.join(where)}, not {name}")
        unfit = self.stages.keys() - set(possible_stages(self.model))
        if unfit:
            raise ValueError(f"this model has no stage {unfit.pop()}; it has {', '.join(possible_stages(self.model))}")
        return self

    @property
    def method(self) -> str:
        """The name by which a model card calls the kind of model."""
        return _method(self.model)

    @property
    def band_set(self) -> BandSet:
        """The meaning of the model's channels, as the card states it."""
        return BandSet.display(*self.bands) if self.units == "display" else BandSet.reflectance(*self.bands)

    @property
    def frames(self) -> int:
        """Cloudy dates that the model takes."""
        return getattr(self.model, "frames", 1)

    @property
    def sar(self) -> int:
        """Bands of Sentinel-1 that the model takes."""
        return getattr(self.model, "sar", 0)

    def build(self) -> RestorationModel:
        """The model with fresh weights; UncloudedError where its sizes make no network."""
        return construct(METHODS[self.method], self.model, "Mend the recipe's model (--set model.…).")


def possible_stages(model: DEConfig | EndToEndConfig | DiffCRConfig) -> Iterable[StageName]:
    """The stages that train a part of this model, in their order."""
    if isinstance(model, DiffCRConfig):
        return ("diffcr",)
    if isinstance(model, EndToEndConfig):
        return ("prior",)
    return ("coarse",) if model.prior is None else ("prior", "coarse", "weights", "joint")


@dataclass(frozen=True)
class Run:
    """Where and how to train: what does not change the result (up to the precision)."""

    data: Path
    out: Path
    stages: tuple[StageName, ...] | None = None  # only these of the recipe's
    max_minutes: float = float("inf")
    workers: int | None = None  # processes that prepare data; None: as many as the device needs (`workers_for`)
    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"

"""A model's card: all that is needed to build, use, judge and cite it. It travels in the header of the model file."""

import math
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from unclouded.errors import UsageError
from unclouded.sampling import PAPER, SPREAD_WINDOW, Quality, Sampling
from unclouded.scenes.bands import BandSet


class Measurement(BaseModel):
    """Metrics of the model on one list of pairs, and the command that prints them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    data: str
    split: str
    split_hash: str
    n: int
    protocol: str
    what: str = "model"  # or "prior alone", "cloudy input"
    values: dict[str, float]
    command: str = ""


class TrainingRecord(BaseModel):
    """What the weights were made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recipe: str
    settings: dict[str, Any] = {}
    data: tuple[str, ...] = ()
    commit: str = ""
    minutes: dict[str, float] = {}  # per stage, as run
    steps: dict[str, int] = {}
    init: "TrainingRecord | None" = None  # of the model that it started from
    note: str = ""  # what was done to the weights without training


class SpreadCalibration(BaseModel):
    """What the factors of `ModelCard.spread_scale` were fitted on, and what ± 1 spread was found to cover.

    `coverage_held_out` is measured on each half of the images with factors fitted on the other half, so it is what
    unseen images of that kind get; `level` is what it should be. `coverage_apart` is the same for all bands together,
    of the pixels under cloud ("cloudy") and beside it ("clear"); `reliability` has the root mean square of "spread" and
    "error", of [0, 1], in bins of equal count by their spread.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    data: str
    split: str
    split_hash: str
    images: int
    samples: int  # draws per image
    level: float
    coverage_raw: tuple[float, ...]  # per band, before scaling
    coverage_held_out: tuple[float, ...]
    rank_correlation: float | None  # Spearman's, between the scaled spread and |error|
    rank_correlation_within: float | None = None  # the same within an image, mean over the images
    coverage_apart: dict[str, float] = {}
    reliability: dict[str, tuple[float, ...]] = {}
    command: str = ""


class ModelCard(BaseModel):
    """`architecture` is validated by the method's own Config when the model is built (models/registry.py)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: Literal[1] = 1
    name: str
    summary: str = ""
    method: str
    architecture: dict[str, Any]
    bands: BandSet
    sampling: Sampling = PAPER  # the default, `balanced`
    fast: Sampling | None = None  # the cheapest point that is still good, where it was measured
    training: TrainingRecord | None = None
    metrics: tuple[Measurement, ...] = ()
    limits: tuple[str, ...] = ()  # where it is known to fail
    licence: str = "not stated"
    citation: tuple[str, ...] = ()
    spread_scale: tuple[float, ...] = ()  # factor per band that makes the samples' spread a standard deviation
    calibration: SpreadCalibration | None = None  # how it was found

    @model_validator(mode="after")
    def _one_factor_a_band(self) -> Self:
        if self.spread_scale and len(self.spread_scale) != len(self.bands):
            raise ValueError(f"{len(self.spread_scale)} factors of the spread for {len(self.bands)} bands")
        if not all(math.isfinite(factor) and factor > 0 for factor in self.spread_scale):
            raise ValueError(f"factors of the spread must be positive numbers, not {self.spread_scale}")
        return self

    def at(self, quality: Quality) -> Sampling:
        """The point of that name on the model's front of quality against evaluations; UsageError for another name.

        `paper` is DDIM with 50 steps from noise, as the DE paper samples; the bounds of W, the copies that the prior
        sees, margin, scales and tiles are the model's own, so that `balanced` differs from it in the steps alone. A
        card that names no `fast` point gives half the steps of its default, one at least, to DPM-Solver++, a single
        copy to the prior and one scale to both.
        """
        if quality not in get_args(Quality):
            raise UsageError(f"There is no quality {quality!r}. Choose one of: {', '.join(get_args(Quality))}.")
        if quality == "paper":
            bounds = {"weight_floor", "weight_ceiling", "weight_tolerance"}
            kept = bounds | {"self_ensemble", "margin", "scales", "scale_share", "tile"}
            return PAPER.model_copy(update=self.sampling.model_dump(include=kept))
        if quality == "balanced":
            return self.sampling
        fewer = {"steps": max(1, self.sampling.steps // 2), "self_ensemble": 1, "scales": 1}
        return self.fast or self.sampling.model_copy(update={"sampler": "dpm", "eta": 0.0} | fewer)


def spread_meaning(card: ModelCard | None, samples: int) -> str:
    """What "±" means for `samples` draws of a model, in a sentence for reports."""
    around = f"{SPREAD_WINDOW} × {SPREAD_WINDOW} pixels"
    plain = f"± is the standard deviation over {samples} samples (root mean square over {around} around each)"
    if card is None or not card.spread_scale:
        return f"{plain}, which was not compared with true errors for this model."
    factors = ", ".join(f"{n} {f:.3g}" for n, f in zip(card.bands.names, card.spread_scale, strict=True))
    text = f"{plain} times a factor per band ({factors})"
    made = card.calibration
    if made is None:
        return f"{text}."
    before, after = (_percent(values) for values in (made.coverage_raw, made.coverage_held_out))
    text += (
        f", fitted with {made.samples} samples on {made.images} images of {made.split}: on images held out of the fit "
        f"it covers {after} of the pixels (nominally {100 * made.level:.0f} %), without the factor {before}."
    )
    return text if samples == made.samples else f"{text} For {samples} samples that was not measured."


def _percent(shares: tuple[float, ...]) -> str:
    low, high = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"

"""How a model is sampled: the options of `remove`, the defaults in a model's card."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unclouded.errors import UsageError, first_problem


class Sampling(BaseModel):
    """One way to draw a clear image; torch-free, so that the command line can name its choices quickly.

    `steps` evaluations of `sampler`, placed by `spacing` among the schedule's T; `start` < T begins there from the
    noised reference prior (warm start) instead of from pure noise; `eta` is DDIM's stochasticity; W is clamped to
    [`weight_floor`, `weight_ceiling`] (in the paper η = 0.3 and 1; the floor wins), and below a ceiling of 1 samples
    differ everywhere; then W is halved where the two estimates lie `weight_tolerance` apart (root mean square around a
    pixel, of [0, 1]), and falls to 0 beyond; an image is finished early where its x0 moves by no more than `settle` in
    a step (root mean square, of [0, 1]); `samples` draws of noise share what the prior says. That is its mean over
    `self_ensemble` copies of the image: itself, turned by 180° (2), by all quarter turns (4), these also flipped (8).
    The networks see `margin` pixels more on each side, reflections of the image. With `scales` > 1 the image is also
    restored at half the resolution, at a quarter …, and each coarser answer counts by `scale_share` in the tones that
    it resolves (models/scales.py). A scene is cut into tiles of about `tile` pixels a side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    sampler: Literal["ddim", "ddpm", "dpm", "unipc"] = "ddim"
    steps: int = Field(50, ge=1)
    spacing: Literal["leading", "trailing", "linspace"] = "leading"
    start: int | None = Field(None, ge=1)
    eta: float = Field(0.0, ge=0)
    weight_floor: float = Field(0.3, ge=0, le=1)
    weight_ceiling: float = Field(1.0, ge=0, le=1)
    weight_tolerance: float | None = Field(None, gt=0, le=1)
    settle: float | None = Field(None, gt=0, le=1)
    self_ensemble: Literal[1, 2, 4, 8] = 1
    margin: int = Field(0, ge=0, le=256)
    scales: int = Field(1, ge=1, le=5)
    scale_share: float = Field(0.33, ge=0, le=1)
    tile: int = Field(256, ge=1)
    seed: int = Field(0, ge=0)
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _stochastic(self) -> Self:
        if self.eta and self.sampler != "ddim":
            raise ValueError("eta is an option of the sampler ddim alone")
        return self


# what commands let one change
OPTIONS = (
    "steps",
    "sampler",
    "start",
    "weight_floor",
    "weight_tolerance",
    "settle",
    "self_ensemble",
    "margin",
    "scales",
    "samples",
    "seed",
)

SPREAD_WINDOW = 17  # pixels a side over which the samples' variance is averaged: a few say little of one pixel

PAPER = Sampling()  # Sui et al., section V: DDIM, 50 steps, η = 0.3

Quality = Literal["fast", "balanced", "paper"]  # named points on a model's front of quality against evaluations


def changed(sampling: Sampling, changes: Mapping[str, Any]) -> Sampling:
    """`sampling` with some options changed, checked as if it had been written so; UsageError names the option."""
    try:
        return Sampling.model_validate(sampling.model_dump() | dict(changes))
    except ValidationError as error:
        problem = first_problem(error)
        what = problem.what[0].lower() + problem.what[1:]
        if not problem.path:
            raise UsageError(f"The sampling options do not fit: {what}. Change them.") from error
        option = problem.where.replace("_", "-")
        raise UsageError(f"--{option} {problem.value} is not possible: {what}. Give another value.") from error

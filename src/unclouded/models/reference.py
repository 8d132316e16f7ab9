"""x_E = E(y) (eq. 10) as a model is sampled with it: the mean over turned copies, joined over scales."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unclouded.errors import UsageError
from unclouded.models.padding import with_margin, without_margin
from unclouded.models.scales import joined, pyramid
from unclouded.sampling import Sampling

if TYPE_CHECKING:
    from unclouded.models.base import RestorationModel

# quarter turns, and whether flipped after them: the copies that a self-ensemble takes, the first ones first
TURNS = ((0, False), (2, False), (1, False), (3, False), (0, True), (2, True), (1, True), (3, True))


def reference_answer(model: "RestorationModel", y: Tensor, sampling: Sampling) -> Tensor | None:
    """The prior's own answer to y as `restore` would give it; None if the model has no reference prior."""
    margin, answers = sampling.margin, []
    for scale, image in enumerate(pyramid(y, sampling.scales)):
        x_E = reference_mean(model, with_margin(image, margin), sampling.self_ensemble, scale)
        if x_E is None:
            return None
        answers.append(without_margin(x_E, margin).float())
    return joined(answers, sampling.scale_share)


def reference_mean(model: "RestorationModel", y: Tensor, copies: int, first: int = 0) -> Tensor | None:
    """x_E as the mean of E over so many copies of y, turned and flipped as `TURNS` says from `first` on, each answer
    turned back (geometric self-ensemble; Lim et al. 2017, arXiv 1707.02921). Without a reference prior None for one
    copy, UsageError for more."""
    answers = []
    for turn in range(first, first + copies):
        quarters, flip = TURNS[turn % len(TURNS)]
        x_E = model.reference(_turned(y, quarters, flip))
        if x_E is None:
            if copies == 1:
                return None
            raise UsageError("A self-ensemble averages the reference prior, which this model lacks. Leave it out.")
        answers.append(_turned_back(x_E.float(), quarters, flip))
    return sum(answers[1:], answers[0]) / copies


def _turned(x: Tensor, quarters: int, flip: bool) -> Tensor:
    if not quarters and not flip:
        return x
    turned = torch.rot90(x, quarters, (-2, -1))
    return (turned.flip(-1) if flip else turned).contiguous(memory_format=torch.channels_last)


def _turned_back(x: Tensor, quarters: int, flip: bool) -> Tensor:
    return torch.rot90(x.flip(-1) if flip else x, -quarters, (-2, -1))

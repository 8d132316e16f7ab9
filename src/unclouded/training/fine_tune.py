"""Training that starts from a finished model and not from random weights (`--set init=MODEL`)."""

import logging
from typing import Any, cast

from torch import Tensor, nn

from unclouded.errors import UsageError
from unclouded.models import store
from unclouded.models.base import RestorationModel

logger = logging.getLogger(__name__)


def start_from(model: RestorationModel, source: str) -> tuple[str, ...]:
    """Give `model` the weights of the model `source` (a shipped name or a file), part by part; the names of the parts
    that came over.

    A part of the same shape comes over whole. A reference prior that differs in its bands alone keeps what it knows of
    those that both have, by position; the others start fresh. Raises UsageError if no part fits.
    """
    other, _ = store.load(store.resolve(source))
    theirs = dict(cast(nn.Module, other).named_children())
    taken = tuple(
        name
        for name, part in cast(nn.Module, model).named_children()
        if name in theirs and _take(part, theirs[name].state_dict(), name == "prior" and _same_prior(model, other))
    )
    if not taken:
        raise UsageError(f"No part of {source} fits the model of this recipe. Leave init out, or name another model.")
    logger.info("started from %s: %s", source, ", ".join(taken))
    return taken


def _same_prior(model: RestorationModel, other: RestorationModel) -> bool:
    """Whether the priors are the same network but for their bands, or for a gain that ours has besides."""
    ours, theirs = (cast(Any, m).config for m in (model, other))
    added = {"gain": True} if ours.prior_options.get("gain") else {}
    return bool(ours.prior == theirs.prior and ours.prior_options == theirs.prior_options | added)


def _take(part: nn.Module, tensors: dict[str, Tensor], partly: bool) -> bool:
    """Copy `tensors` into `part`, with `partly` only where they overlap; False, and nothing copied, if they differ."""
    own = part.state_dict()
    same = {name: t.shape for name, t in own.items()} == {name: t.shape for name, t in tensors.items()}
    if not same and not (partly and own.keys() >= tensors.keys()):
        return False
    for name, theirs in tensors.items():
        common = tuple(slice(min(sizes)) for sizes in zip(own[name].shape, theirs.shape, strict=True))
        own[name][common] = theirs[common]  # state_dict() shares memory with the part
    return True

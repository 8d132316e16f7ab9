"""Training that starts from a finished model and not from random weights (`--set init=MODEL`)."""

import logging
from typing import Any, cast

from torch import Tensor, nn

from unclouded.errors import UsageError
from unclouded.models import store
from unclouded.models.base import RestorationModel
from unclouded.models.light import LightCNP
from unclouded.models.priors.light import Light

logger = logging.getLogger(__name__)


def start_from(model: RestorationModel, source: str) -> tuple[str, ...]:
    """Give `model` the weights of the model `source` (a shipped name or a file), part by part; the names of the parts
    that came over.

    A part of the same shape comes over whole. A reference prior that differs in its bands alone keeps what it knows of
    those that both have, by position; the others start fresh. A light CNP that predicts the residual begins as the
    light prior of `source`, whatever x_t and t. Raises UsageError if no part fits.
    """
    other, _ = store.load(store.resolve(source))
    theirs = dict(cast(nn.Module, other).named_children())
    taken = tuple(
        name
        for name, part in cast(nn.Module, model).named_children()
        if name in theirs and _take(part, theirs[name].state_dict(), name == "prior" and _same_prior(model, other))
    )
    if "cnp" not in taken and _begin_as_prior(model, theirs.get("prior")):
        taken = (*taken, "cnp (its prior)")
    if not taken:
        raise UsageError(f"No part of {source} fits the model of this recipe. Leave init out, or name another model.")
    logger.info("started from %s: %s", source, ", ".join(taken))
    return taken


def _begin_as_prior(model: RestorationModel, prior: nn.Module | None) -> bool:
    """Whether the model's CNP now answers as this prior does: x_E − y in [−1, 1], which is twice that of [0, 1]; a gain
    is the same in both. It may have fewer blocks, and a gain besides."""
    cnp = getattr(model, "cnp", None)
    if not (
        isinstance(prior, Light) and isinstance(cnp, LightCNP) and cast(Any, model).config.prediction == "residual"
    ):
        return False
    if prior.gain is not None and cnp.gain is None:
        return False
    own, tensors = cnp.state_dict(), prior.state_dict()
    stem, y = "stem.weight", slice(4 * model.bands, 8 * model.bands)  # x_t, y[, sar], each 4 channels a band
    shared = {name: tensor for name, tensor in tensors.items() if name in own and name != stem}
    needed = {name for name in own if not name.startswith(("time.", "attention.", "gain."))}  # these begin as nothing
    if not needed <= tensors.keys() or any(own[name].shape != tensor.shape for name, tensor in shared.items()):
        return False
    if own[stem][:, y].shape != tensors[stem].shape:
        return False
    for name, tensor in shared.items():
        own[name].copy_(2 * tensor if name.startswith("head.") else tensor)
    own[stem].zero_()
    own[stem][:, y] = tensors[stem]
    return True


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

"""A model whose CNP and WA (or other parts) are a weighted mean of those of two models, B trained on from A.

    python benchmarks/mean_of_weights.py A.safetensors B.safetensors OUT.safetensors --share 0.8 [--parts cnp wa]

All other parts, and the architecture, are those of A; `--share` is B's. The card is that of B, and says so.
"""

import argparse
from pathlib import Path
from typing import cast

import torch
from torch import nn

from unclouded.models import store
from unclouded.models.card import ModelCard, TrainingRecord
from unclouded.training.export import commit


def record(a: ModelCard, b: ModelCard, share: float, parts: list[str]) -> TrainingRecord:
    """What the mean was made from: B, as what it started from, and A."""
    theirs, ours = a.training, b.training
    assert theirs is not None, "a model that was trained says from what"
    assert ours is not None, "a model that was trained says from what"
    steps = ", ".join(f"{stage} {n}" for stage, n in theirs.steps.items())
    return TrainingRecord(
        recipe=ours.recipe,
        data=tuple(dict.fromkeys((*theirs.data, *ours.data))),
        commit=commit(),
        init=ours,
        note=f"mean of weights: {share:g} of what it started from in {' and '.join(parts)}; the rest, and all other "
        f"parts, of `unclouded train {theirs.recipe}` at commit {theirs.commit[:12]} ({steps})",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--parts", nargs="+", default=["cnp", "wa"])
    options = parser.parse_args()
    (model, ours), (other, card) = (store.load(path) for path in (options.a, options.b))
    with torch.no_grad():
        for part in options.parts:
            kept, theirs = (cast(nn.Module, getattr(m, part)).state_dict() for m in (model, other))
            for name, tensor in kept.items():
                tensor.lerp_(theirs[name], options.share)
    training = record(ours, card, options.share, options.parts)
    store.save(options.out, model, card.model_copy(update={"training": training, "architecture": ours.architecture}))


if __name__ == "__main__":
    main()

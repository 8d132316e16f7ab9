"""A model whose CNP and WA (or other parts) are a weighted mean of those of two models, B trained on from A.

    python benchmarks/mean_of_weights.py A.safetensors B.safetensors OUT.safetensors --share 0.8 [--parts cnp wa]

All other parts are those of A, the card is that of B, which remembers what it started from; `--share` is B's.
"""

import argparse
from pathlib import Path
from typing import cast

import torch
from torch import nn

from unclouded.models import store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--parts", nargs="+", default=["cnp", "wa"])
    options = parser.parse_args()
    (model, _), (other, card) = (store.load(path) for path in (options.a, options.b))
    with torch.no_grad():
        for part in options.parts:
            ours, theirs = (cast(nn.Module, getattr(m, part)).state_dict() for m in (model, other))
            for name, tensor in ours.items():
                tensor.lerp_(theirs[name], options.share)
    store.save(options.out, model, card)


if __name__ == "__main__":
    main()

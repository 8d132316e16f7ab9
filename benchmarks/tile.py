"""A tile of 256² through a model: its `fast` and `balanced` points as they run, against `paper` in the plain form.

    python benchmarks/tile.py [--model base] [--data ../shared/data/rice2 --split rice2-val] [--rounds 5]

The plain form of `paper` (DDIM with 50 steps) is eager, float32, NCHW, attention written out. With data, PSNR and SSIM
of `fast` and `balanced` (in the precision that `auto` chooses) are compared with those of `paper` in float32 on the
same pairs.
"""

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation import Variant, floor, modes, work
from measuring import alternate, compared, machine, shown, with_peak
from unclouded.datasets.pairs import Pair, read_pairs
from unclouded.evaluation.evaluate import evaluate, spread_out
from unclouded.evaluation.methods import Model
from unclouded.evaluation.metrics import paper as protocol
from unclouded.models.card import ModelCard
from unclouded.models.padding import pad_to_multiple, with_margin
from unclouded.models.scales import pyramid
from unclouded.restore import Restorer, load, restore
from unclouded.sampling import Sampling
from unclouded.training.recipes import recipe

SIDE = 256
POINTS = ("fast", "balanced")
LEAST_PAIRS = 30


def untrained(name: str = "base") -> Restorer:
    """The recipe's model with fresh weights, for where none is shipped: speed does not depend on what they say."""
    chosen = recipe(name)
    card = ModelCard(name=f"{name}, untrained", method=chosen.method, architecture={}, bands=chosen.band_set,
                     sampling=chosen.sampling)  # fmt: skip
    return Restorer(chosen.build(), card, device="cpu")


def plain_form(restorer: Restorer, y: torch.Tensor) -> Callable[[], None]:
    """The published way to run the same weights."""
    model = copy.deepcopy(restorer.model).to(memory_format=torch.contiguous_format)

    def run() -> None:
        with modes(Variant(materialised=True)):
            restore(model, y, restorer.card.at("paper"))

    return run


def measure(restorer: Restorer, rates: dict[str, Any], rounds: int = 3) -> dict[str, Any]:
    y = torch.rand(1, restorer.model.bands * restorer.model.frames, SIDE, SIDE)
    points = {name: restorer.card.at(name) for name in POINTS}
    runs: dict[str, Callable[[], Any]] = {"paper, plain": plain_form(restorer, y)}
    runs |= {name: lambda s=sampling: restorer.restore(y, sampling=s) for name, sampling in points.items()}
    for run in runs.values():
        run()
    taken = alternate(runs, rounds)
    least = {name: least_seconds(restorer, y, sampling, rates) for name, sampling in points.items()}
    return {
        "model": restorer.card.name,
        "precision": restorer.precision,
        "points": {
            name: {
                **compared(taken["paper, plain"], seconds),
                "share_of_floor": least[name] / min(s.processors for s in seconds) if name in least else None,
                "peak_mb": with_peak(runs[name])[1],
                "sampling": restorer.card.at(name.partition(",")[0]).model_dump(exclude_none=True),
            }
            for name, seconds in taken.items()
        },
    }


def least_seconds(restorer: Restorer, y: torch.Tensor, sampling: Sampling, rates: dict[str, Any]) -> float:
    """The floor of a tile: at each scale the prior once for each copy, the denoiser in each step."""
    parts = [least_work(restorer.model, image, sampling) for image in pyramid(y, sampling.scales)]
    operations, moved = (sum(part) for part in zip(*parts, strict=True))
    return floor(operations, moved, rates)


def least_work(model: Any, y: torch.Tensor, sampling: Sampling) -> tuple[int, int]:
    """Operations and bytes (see `work`) of restoring y at its own scale."""
    y = pad_to_multiple(with_margin(y, sampling.margin), model.multiple)
    first = y[:, : model.bands]

    def denoise(x_t: torch.Tensor) -> None:
        model.denoiser(y, first)(x_t, torch.zeros(len(y), dtype=torch.long, device=y.device))

    prior = work(model, y, call=model.reference)
    step = (0, 0) if model.schedule is None else work(model, first, call=denoise)
    operations, moved = (sampling.self_ensemble * p + sampling.steps * s for p, s in zip(prior, step, strict=True))
    return operations, moved


def quality(restorer: Restorer, pairs: list[Pair]) -> dict[str, Any]:
    """PSNR and SSIM of each point minus those of DDIM-50 in full precision; means over the pairs."""
    exact = Restorer(copy.deepcopy(restorer.model), restorer.card, "cpu", precision="fp32")
    methods = {name: Model(restorer, restorer.card.at(name)) for name in POINTS} | {
        "paper": Model(exact, exact.card.at("paper"))
    }
    scores = {
        name: np.mean([[s.values[k] for k in ("psnr", "ssim")] for s in evaluate(m, pairs, protocol)], 0)
        for name, m in methods.items()
    }
    psnr, ssim = scores["paper"]
    differences = {
        name: {"psnr": float(scores[name][0] - psnr), "ssim": float(scores[name][1] - ssim)} for name in POINTS
    }
    return {"pairs": len(pairs), "paper": {"psnr": float(psnr), "ssim": float(ssim)}, "difference": differences}


def table(result: dict[str, Any]) -> str:
    lines = [
        f"a tile of {SIDE}² through {result['model']}, {result['precision']}",
        f"{'min  median  max of:':<22}{'seconds':>22}{'times as fast':>24}{'in processor time':>24}"
        f"{'of floor':>10}{'peak MB':>9}",
    ]
    for name, row in result["points"].items():
        cells = "".join(f"{shown(row[key]):>24}" for key in ("seconds", "ratio", "processor_ratio"))
        share = "–" if row["share_of_floor"] is None else f"{row['share_of_floor']:.0%}"
        peak = "–" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
        lines.append(f"{name:<20}{cells}{share:>10}{peak:>9}")
    if "quality" in result:
        q = result["quality"]
        lines.append(f"on {q['pairs']} pairs, paper: {q['paper']['psnr']:.2f} dB, SSIM {q['paper']['ssim']:.4f}")
        lines += [f"  {n} differs by {d['psnr']:+.3f} dB, {d['ssim']:+.4f}" for n, d in q["difference"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a shipped model's name or a file; untrained weights if not given")
    parser.add_argument("--data", type=Path, help="pairs to compare the quality on")
    parser.add_argument("--split")
    parser.add_argument("--limit", type=int, default=LEAST_PAIRS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    restorer = load(options.model, device="cpu") if options.model else untrained()
    result = measure(restorer, machine(), options.rounds)
    if options.data:
        result["quality"] = quality(restorer, spread_out(read_pairs(options.data, options.split), options.limit))
    print(table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

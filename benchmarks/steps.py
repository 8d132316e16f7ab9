"""Quality against evaluations: which sampler, start, spacing, weight floor and self-ensemble restore best for how many.

    python benchmarks/steps.py --model base --data ../shared/data/rice2 --split rice2-val --limit 30 --out steps.json

Prints a table sorted by evaluations, marks the front (nothing cheaper is as good), and stores everything as JSON. The
point chosen for a model goes into its card.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from unclouded.datasets.pairs import read_pairs
from unclouded.evaluation.evaluate import evaluate, spread_out
from unclouded.evaluation.methods import Method, Model, Prior
from unclouded.evaluation.metrics import paper
from unclouded.restore import load
from unclouded.sampling import Sampling, changed


@dataclass(frozen=True)
class Point:
    """One way of sampling and what it reached; means over the list."""

    sampler: str
    steps: int
    start: int | None
    spacing: str
    weight_floor: float
    self_ensemble: int  # copies that the prior sees
    evaluations: float  # of prior and CNP for an image; fewer than all of `steps` where sampling settles
    psnr: float
    ssim: float
    sharpness: float  # gradient energy of the results over that of the clear images
    seconds: float  # per image


def measure(method: Method, pairs: list, sampling: Sampling | None) -> Point:
    evaluations = 0

    def count(*_: object) -> None:
        nonlocal evaluations
        evaluations += 1

    model = method.restorer.model
    hooks = [network.register_forward_hook(count) for network in (model.prior, model.cnp)]
    began = time.perf_counter()
    scores = list(evaluate(method, pairs, paper))
    for hook in hooks:
        hook.remove()
    seconds = (time.perf_counter() - began) / len(pairs)
    mean = {name: float(np.mean([s.values[name] for s in scores])) for name in ("psnr", "ssim")}
    sharpness = sum(s.values["gradient"] for s in scores) / sum(s.values["gradient_truth"] for s in scores)
    how = ("prior alone", 0, None, "", 1.0, method.sampling.self_ensemble) if sampling is None else (
        sampling.sampler, sampling.steps, sampling.start, sampling.spacing, sampling.weight_floor,
        sampling.self_ensemble,
    )  # fmt: skip
    return Point(*how, evaluations / len(pairs), mean["psnr"], mean["ssim"], sharpness, seconds)


def front(points: list[Point]) -> set[Point]:
    """The points than which nothing with as few evaluations has a higher PSNR."""
    return {p for p in points if not any(q.evaluations <= p.evaluations and q.psnr > p.psnr for q in points)}


def show(points: list[Point]) -> None:
    best = front(points)
    print("| sampler | steps | start | spacing | floor | copies | runs | PSNR | SSIM | sharpness | s / image | front |")
    print("|---" * 12 + "|")
    for p in sorted(points, key=lambda p: (p.evaluations, -p.psnr)):
        print(
            f"| {p.sampler} | {p.steps} | {p.start or 'T'} | {p.spacing} | {p.weight_floor} "
            f"| {p.self_ensemble} | {p.evaluations:.1f} | {p.psnr:.2f} | {p.ssim:.4f} | {p.sharpness:.3f} "
            f"| {p.seconds:.2f} | {'*' if p in best else ''} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--samplers", nargs="+", default=["ddim", "dpm", "unipc"])
    parser.add_argument("--steps", nargs="+", type=int, default=[3, 5, 10, 15])
    parser.add_argument("--starts", nargs="+", type=int, default=[0, 400, 700], help="0: from pure noise")
    parser.add_argument("--spacings", nargs="+", default=["trailing"])
    parser.add_argument("--floors", nargs="+", type=float, default=[0.3])
    parser.add_argument("--self-ensembles", nargs="+", type=int, default=[1])
    parser.add_argument("--paper", action="store_true", help="also DDIM-50, the paper's")
    parser.add_argument("--settle", nargs="+", type=float, default=[], help="also DDIM-50, ended at these tolerances")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    restorer = load(options.model, precision=options.precision)
    pairs = spread_out(read_pairs(options.data, options.split), options.limit)
    paper = restorer.card.at("paper")
    points = [
        measure(Prior(restorer, paper.model_copy(update={"self_ensemble": copies})), pairs, None)
        for copies in options.self_ensembles
    ]
    varied = ("sampler", "steps", "start", "spacing", "weight_floor", "self_ensemble")
    starts = [start or None for start in options.starts]
    ways = [
        changed(paper, dict(zip(varied, values, strict=True)))
        for values in product(
            options.samplers, options.steps, starts, options.spacings, options.floors, options.self_ensembles
        )
    ]
    ways += [paper] if options.paper else []
    ways += [paper.model_copy(update={"settle": tolerance}) for tolerance in options.settle]
    for sampling in ways:
        points.append(measure(Model(restorer, sampling), pairs, sampling))
        print(points[-1], flush=True)
    show(points)
    if options.out:
        options.out.write_text(json.dumps([asdict(p) for p in points], indent=1))


if __name__ == "__main__":
    main()

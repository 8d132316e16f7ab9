"""On a CUDA GPU: the paper's networks and whole restorations, tiles a second and the share of the card's bf16 rate.

    python benchmarks/gpu.py [--model FILE] [--batch 16] [--variants …] [--no-compile] [--rounds 5] [--out gpu.json]

Rates are measured first: a bf16 matrix product of 8192² and a copy of 4 GB, medians. One evaluation is of the paper's
CNP and WA; a tile is 256² through the model (without --model the paper's size with fresh weights), from host memory to
host memory, by `paper` and by `balanced`, and through each shipped model. Operations are those of convolutions, matrix
products and attention, a multiply-add counted as two.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evaluation import VARIANTS, Evaluation, prepare, work
from tile import least_work, untrained
from unclouded.models import store
from unclouded.models.scales import pyramid
from unclouded.restore import Restorer, load

SIDE = 256


def seconds(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """By the GPU's clock, after a first run."""
    run()
    taken = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1000)
    return {"min": min(taken), "median": statistics.median(taken), "max": max(taken)}


def card() -> dict[str, Any]:
    n = 8192
    a, b = torch.randn(2, n, n, device="cuda", dtype=torch.bfloat16).unbind()
    c = torch.empty(2**31, dtype=torch.uint8, device="cuda").random_()
    d = torch.empty_like(c)
    return {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "bf16_tflops": 2 * n**3 / seconds(lambda: a @ b, 10)["median"] / 1e12,
        "copy_terabytes_per_second": 2 * c.numel() / seconds(lambda: d.copy_(c), 10)["median"] / 1e12,
    }


def evaluations(names: list[str], rate: float, batch: int, rounds: int) -> dict[str, Any]:
    inputs = (*torch.randn(3, batch, 3, SIDE, SIDE).unbind(), torch.full((batch,), 500))
    with torch.device("meta"):
        flops, _ = work(Evaluation(), *(x.to("meta") for x in inputs))
    taken = {name: seconds(prepare(VARIANTS[name], inputs, "cuda"), rounds) for name in names}
    return {name: times(value, batch, flops, rate) for name, value in taken.items()}


def times(taken: dict[str, float], batch: int, flops: float, rate: float) -> dict[str, Any]:
    """`flops` are those of the batch."""
    shares = {key: flops / value / 1e12 / rate for key, value in taken.items()}
    return {"images_per_second": batch / taken["median"], "seconds": taken, "share_of_rate": shares}


def restorations(restorer: Restorer, points: list[str], rate: float, batch: int, rounds: int) -> dict[str, Any]:
    model: Any = restorer.model
    y = torch.rand(batch, model.bands * model.frames, SIDE, SIDE)
    found = {}
    for point in points:
        sampling = restorer.card.at(point)  # type: ignore[arg-type]
        torch.cuda.reset_peak_memory_stats()
        taken = seconds(lambda s=sampling: restorer.restore(y, sampling=s), rounds)  # type: ignore[misc]
        flops = sum(least_work(model, image, sampling)[0] for image in pyramid(y.cuda(), sampling.scales))
        found[point] = times(taken, batch, flops, rate) | {
            "peak_mb": torch.cuda.max_memory_allocated() / 2**20,
            "sampling": sampling.model_dump(exclude_none=True),
        }
    return found


def table(title: str, found: dict[str, Any]) -> str:
    lines = [f"{title:<28}{'images/s':>10}{'share of the bf16 rate':>26}{'peak MB':>9}"]
    for name, row in found.items():
        share = "  ".join(f"{row['share_of_rate'][key]:.0%}" for key in ("max", "median", "min"))
        peak = f"{row['peak_mb']:.0f}" if "peak_mb" in row else "–"
        lines.append(f"{name:<28}{row['images_per_second']:>10.1f}{share:>26}{peak:>9}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model file; without it the paper's size, untrained")
    parser.add_argument("--batch", type=int, default=16, help="tiles at a time of the paper's size")
    parser.add_argument("--light-batch", type=int, default=64, help="tiles at a time of the shipped models")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["plain", "bf16", "bf16 compiled"])
    parser.add_argument("--no-compile", action="store_true", help="sample the paper's size as it is")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU here.")
    result: dict[str, Any] = {"card": card(), "batch": options.batch}
    rate = result["card"]["bf16_tflops"]
    print(json.dumps(result["card"]), flush=True)
    result["evaluation"] = evaluations(options.variants, rate, options.batch, options.rounds)
    print(table(f"one evaluation, {options.batch} × {SIDE}²", result["evaluation"]), flush=True)
    torch.cuda.empty_cache()
    paper = load(options.model) if options.model else untrained("de-msda-rice2")
    restorer = Restorer(paper.model, paper.card, "cuda", "bf16", compile=not options.no_compile)
    result["restoration"] = restorations(restorer, ["paper", "balanced"], rate, options.batch, 3)
    print(table(f"{restorer.card.name}, {options.batch} × {SIDE}²", result["restoration"]), flush=True)
    for name in store.shipped():
        result[name] = restorations(load(name, device="cuda"), ["paper", "balanced"], rate, options.light_batch, 5)
        print(table(f"{name}, {options.light_batch} × {SIDE}²", result[name]), flush=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""One evaluation of the paper's CNP + WA: ours against plain eager float32 NCHW with materialised attention.

    python benchmarks/evaluation.py [--size 256] [--rounds 5] [--batch 1] [--variants …] [--out results.json]

Each round runs every variant once, one after the other, so that other work on the machine meets them alike; the ratios
are of one round. The floor is the network's operations at the machine's measured matrix rate, measured in each round.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unclouded.models import unet
from unclouded.models.unet import UNet

Seconds = tuple[float, float]  # of the clock, of the processors


@dataclass(frozen=True)
class Variant:
    """One way to run the same networks."""

    channels_last: bool = False
    materialised: bool = False  # softmax(q·kᵀ) written out in memory
    bf16: bool = False
    compiled: bool = False


VARIANTS = {
    #                                channels_last  materialised  bf16   compiled
    "plain":                 Variant(False,         True,         False, False),
    "sdpa":                  Variant(False,         False,        False, False),
    "channels_last":         Variant(True,          False,        False, False),
    "compiled":              Variant(True,          False,        False, True),
    "bf16":                  Variant(True,          False,        True,  False),
    "bf16 compiled":         Variant(True,          False,        True,  True),
}  # fmt: skip


class Evaluation(nn.Module):
    """ε̂ and W of one step: what a sampler pays for."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.cnp, self.wa = UNet(unet.cnp(bands)), UNet(unet.wa(bands))

    def forward(self, x_t: Tensor, y: Tensor, x_E: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.cnp(torch.cat((x_t, y), 1), t), self.wa(torch.cat((x_t, y, x_E), 1), t)


def prepare(variant: Variant, inputs: tuple[Tensor, ...]) -> Callable[[], Seconds]:
    """A function that runs the variant once and gives its seconds. The first run, and compilation, is done here."""
    torch.manual_seed(0)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    network: Any = Evaluation(bands=3).eval().requires_grad_(False).to(memory_format=layout)
    if variant.compiled:
        network = torch.compile(network, dynamic=False)
    inputs = tuple(x.contiguous(memory_format=layout) if x.dim() == 4 else x for x in inputs)

    def run() -> Seconds:
        with modes(variant):
            start = time.perf_counter(), time.process_time()
            network(*inputs)
            return time.perf_counter() - start[0], time.process_time() - start[1]

    run()
    return run


@contextmanager
def modes(variant: Variant) -> Iterator[None]:
    attention: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH) if variant.materialised else nullcontext()
    with torch.inference_mode(), attention, torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
        yield


def operations(inputs: tuple[Tensor, ...]) -> int:
    """Floating-point operations of one evaluation (a multiply-add is two)."""
    with torch.device("meta"):
        network, arguments = Evaluation(bands=3), [torch.empty_like(x, device="meta") for x in inputs]
    with FlopCounterMode(display=False) as counter:
        network(*arguments)
    return counter.get_total_flops()


def matrix_rate(n: int = 2048) -> float:
    """Operations a second of a float32 matrix product."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    start = time.perf_counter()
    a @ b
    return 2 * n**3 / (time.perf_counter() - start)


def measure(names: list[str], size: int, batch: int, rounds: int) -> dict[str, Any]:
    inputs = (*torch.randn(3, batch, 3, size, size).unbind(), torch.full((batch,), 500))
    runs = {}
    for name in names:
        print(f"preparing {name} …", file=sys.stderr)
        runs[name] = prepare(VARIANTS[name], inputs)
    seconds: dict[str, list[Seconds]] = {name: [] for name in names}
    rates = []
    for _ in range(rounds):
        rates.append(matrix_rate())
        for name, run in runs.items():
            seconds[name].append(run())
    flops = operations(inputs)
    return {
        "machine": {"cpu": platform.processor(), "threads": torch.get_num_threads(), "torch": torch.__version__},
        "size": size,
        "batch": batch,
        "gflop": flops / 1e9,
        "matrix_gflops": spread([rate / 1e9 for rate in rates]),
        "floor_seconds": flops / max(rates),
        "baseline": names[0],
        "variants": {name: compare(seconds[names[0]], taken, flops / max(rates)) for name, taken in seconds.items()},
    }


def compare(baseline: list[Seconds], taken: list[Seconds], floor: float) -> dict[str, Any]:
    """A variant's seconds and its ratios to the baseline, round by round."""
    clock, processors = zip(*taken, strict=True)
    return {
        "seconds": spread(clock),
        "ratio": spread([a[0] / b[0] for a, b in zip(baseline, taken, strict=True)]),
        "processor_seconds": spread(processors),  # steadier than the clock where other work runs
        "processor_ratio": spread([a[1] / b[1] for a, b in zip(baseline, taken, strict=True)]),
        "share_of_floor": floor / min(clock),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


COLUMNS = ("seconds", "ratio", "processor_ratio")


def table(result: dict[str, Any]) -> str:
    lines = [
        f"one evaluation, {result['batch']} × {result['size']}²: {result['gflop']:.0f} GFLOP, floor "
        f"{result['floor_seconds']:.2f} s at {result['matrix_gflops']['max']:.0f} GFLOP/s",
        f"{'min  median  max of:':<22}{'seconds':>22}{'times as fast':>24}{'in processor time':>24}{'of floor':>10}",
    ]
    for name, row in result["variants"].items():
        cells = (f"{row[key]['min']:.2f}  {row[key]['median']:.2f}  {row[key]['max']:.2f}" for key in COLUMNS)
        lines.append(f"{name:<20}" + "".join(f"{cell:>24}" for cell in cells) + f"{row['share_of_floor']:>10.0%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels a side; the paper's is 256")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS)[:4])
    parser.add_argument("--out", type=Path, help="write the result as JSON here")
    options = parser.parse_args()
    result = measure(options.variants, options.size, options.batch, options.rounds)
    document = json.dumps(result, indent=2)
    print(table(result), file=sys.stderr)
    print(document)
    if options.out:
        options.out.write_text(document + "\n")


if __name__ == "__main__":
    main()

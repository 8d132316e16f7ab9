"""One evaluation of the paper's CNP + WA: ours against plain eager float32 NCHW with materialised attention.

    python benchmarks/evaluation.py [--size 256] [--rounds 5] [--batch 1] [--variants …] [--out results.json]

The floor is the larger of the networks' operations at the machine's measured bf16 matrix rate and their bytes (every
layer's input, output and weights once, in bf16) at its measured bandwidth.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from measuring import alternate, compared, machine, shown, with_peak
from unclouded.models import unet
from unclouded.models.unet import UNet


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

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        self.cnp, self.wa = UNet(unet.cnp(bands)), UNet(unet.wa(bands))

    def forward(self, x_t: Tensor, y: Tensor, x_E: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.cnp(torch.cat((x_t, y), 1), t), self.wa(torch.cat((x_t, y, x_E), 1), t)


def prepare(variant: Variant, inputs: tuple[Tensor, ...], device: str = "cpu") -> Callable[[], None]:
    """A function that runs the variant once. The first run, and compilation, is done here."""
    torch.manual_seed(0)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    network: Any = Evaluation().eval().requires_grad_(False).to(device, memory_format=layout)
    if variant.compiled:
        network = torch.compile(network, dynamic=False)
    inputs = tuple(x.to(device, memory_format=layout) if x.dim() == 4 else x.to(device) for x in inputs)

    def run() -> None:
        with modes(variant, device):
            network(*inputs)

    run()
    return run


@contextmanager
def modes(variant: Variant, device: str = "cpu") -> Iterator[None]:
    attention: AbstractContextManager[Any] = sdpa_kernel(SDPBackend.MATH) if variant.materialised else nullcontext()
    with torch.inference_mode(), attention, torch.autocast(device, torch.bfloat16, enabled=variant.bf16):
        yield


def work(network: Any, *arguments: Tensor, call: Callable[..., Any] | None = None) -> tuple[int, int]:
    """Floating-point operations (a multiply-add is two) and least bytes in bf16 of `call`, by default of the network:
    each layer reads its input and its weights and writes its output."""
    values = 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
        nonlocal values
        values += given[0].numel() + answer.numel() + sum(p.numel() for p in layer.parameters())

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.GroupNorm)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        (call or network)(*arguments)
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops(), 2 * values


def floor(flops: float, moved: float, rates: dict[str, Any]) -> float:
    """Processor seconds below which the machine cannot do this work in bf16."""
    return max(flops / max(rates["matrix_gflops"].values()) / 1e9, moved / rates["copy_gigabytes_per_second"] / 1e9)


def measure(
    names: list[str], rates: dict[str, Any], size: int = 256, batch: int = 1, rounds: int = 3
) -> dict[str, Any]:
    inputs = (*torch.randn(3, batch, 3, size, size).unbind(), torch.full((batch,), 500))
    runs = {}
    for name in names:
        print(f"preparing {name} …", file=sys.stderr)
        runs[name] = prepare(VARIANTS[name], inputs)
    with torch.device("meta"):
        flops, moved = work(Evaluation(), *(torch.empty_like(x, device="meta") for x in inputs))
    taken, least = alternate(runs, rounds), floor(flops, moved, rates)
    return {
        "size": size,
        "batch": batch,
        "gflop": flops / 1e9,
        "gigabytes": moved / 1e9,
        "floor_seconds": least,
        "variants": {
            name: {
                **compared(taken[names[0]], seconds),
                "share_of_floor": least / min(s.processors for s in seconds),
                "peak_mb": with_peak(runs[name])[1],
            }
            for name, seconds in taken.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"one evaluation at the paper's size, {result['batch']} × {result['size']}²: {result['gflop']:.0f} GFLOP, "
        f"{result['gigabytes']:.1f} GB, floor {result['floor_seconds']:.2f} s",
        f"{'min  median  max of:':<22}{'seconds':>22}{'times as fast':>24}{'in processor time':>24}"
        f"{'of floor':>10}{'peak MB':>9}",
    ]
    for name, row in result["variants"].items():
        cells = "".join(f"{shown(row[key]):>24}" for key in ("seconds", "ratio", "processor_ratio"))
        peak = "–" if row["peak_mb"] is None else f"{row['peak_mb']:.0f}"
        lines.append(f"{name:<20}{cells}{row['share_of_floor']:>10.0%}{peak:>9}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels a side; the paper's is 256")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["plain", "sdpa", "channels_last", "bf16"])
    parser.add_argument("--out", type=Path, help="write the result as JSON here")
    options = parser.parse_args()
    rates = machine()
    result = measure(options.variants, rates, options.size, options.batch, options.rounds)
    print(table(result), file=sys.stderr)
    document = json.dumps({"machine": rates, **result}, indent=2)
    print(document)
    if options.out:
        options.out.write_text(document + "\n")


if __name__ == "__main__":
    main()

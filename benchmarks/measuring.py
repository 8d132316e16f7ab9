"""What every benchmark needs: alternating runs, ratios with min/median/max, the machine's rates, peak memory.

Ratios are of one round: each round runs everything once, one after the other, so that other work on the machine meets
all of it alike. Rates and floors are in processor time, which other work disturbs less than the clock.
"""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from unclouded.restore import computes_in_bf16

Spread = dict[str, float]
Answer = TypeVar("Answer")


class Seconds(NamedTuple):
    """What a run took."""

    clock: float
    processors: float  # steadier than the clock where other work runs

    def of(self, parts: float) -> "Seconds":
        """What one of so many equal parts took."""
        return Seconds(self.clock / parts, self.processors / parts)


def timed(function: Callable[[], Any]) -> Seconds:
    start = time.perf_counter(), time.process_time()
    function()
    return Seconds(time.perf_counter() - start[0], time.process_time() - start[1])


def alternate(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Seconds]]:
    """Each function's time in every round."""
    taken: dict[str, list[Seconds]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            taken[name].append(timed(function))
    return taken


def spread(values: Sequence[float]) -> Spread:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def compared(baseline: Sequence[Seconds], taken: Sequence[Seconds]) -> dict[str, Spread]:
    """Seconds, and how many times as fast as the baseline of the same round, by the clock and in processor time."""
    pairs = list(zip(baseline, taken, strict=True))
    return {
        "seconds": spread([t.clock for t in taken]),
        "processor_seconds": spread([t.processors for t in taken]),
        "ratio": spread([b.clock / t.clock for b, t in pairs]),
        "processor_ratio": spread([b.processors / t.processors for b, t in pairs]),
    }


def shown(values: Spread) -> str:
    return "  ".join(f"{values[key]:.2f}" for key in ("min", "median", "max"))


def machine() -> dict[str, Any]:
    """What ran, and how fast it multiplies and copies at best, per second of processor time."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matrix_gflops": {name: matrix_rate(dtype) / 1e9 for name, dtype in _dtypes().items()},
        "copy_gigabytes_per_second": bandwidth() / 1e9,
    }


def _dtypes() -> dict[str, torch.dtype]:
    """Without bf16 where it is emulated, which takes a minute a product."""
    here = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return here if computes_in_bf16(torch.device("cpu")) else {"fp32": torch.float32}


def matrix_rate(dtype: torch.dtype, n: int = 2048, repeats: int = 5) -> float:
    """Operations a processor second of a matrix product (a multiply-add is two); the best of `repeats`."""
    a, b = torch.randn(2, n, n).to(dtype).unbind()
    return 2 * n**3 / min(timed(lambda: a @ b).processors for _ in range(repeats))


def bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes a processor second, read and written, of copying a large array; the best of `repeats`."""
    a = torch.zeros(megabytes * 2**20, dtype=torch.uint8)
    b = torch.empty_like(a)
    return 2 * a.numel() / min(timed(lambda: b.copy_(a)).processors for _ in range(repeats))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def with_peak(function: Callable[[], Answer]) -> tuple[Answer, float | None]:
    """The answer, and the megabytes that the process grew by at most meanwhile; None where the system cannot say (Linux
    can)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
        before = _status("VmRSS")
    except OSError:
        return function(), None
    answer = function()
    return answer, max(0.0, _status("VmHWM") - before)


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

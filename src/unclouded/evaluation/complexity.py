"""What a model costs: parameters, operations, memory, images per second (Table X of the DE paper).

Operations are counted by torch's `FlopCounterMode`: one multiply-accumulate is 2 FLOP; convolutions, matrix products
and attention count, activations and norms do not. Papers mostly print MACs under the name FLOPs, so both are given.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unclouded.errors import UsageError

if TYPE_CHECKING:
    from unclouded.models.base import RestorationModel
    from unclouded.sampling import Sampling

PARTS = ("prior", "cnp", "wa")


class Complexity(NamedTuple):
    """`gmac_image` is one whole restoration (at every scale the prior once for each copy, every sampling step);
    `gmac_step` one evaluation of the denoiser at the image's own scale, `gmac_prior` one of the prior."""

    parameters: dict[str, int]  # by part, and "total"
    gmac_prior: float | None
    gmac_step: float | None
    gmac_image: float
    gflop_image: float  # 2 × gmac_image
    peak_memory_mb: float | None  # of tensors on CUDA; growth of the process on Linux; else not measured
    images_per_second: float
    size: tuple[int, int]
    steps: int | None
    device: str

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


def count_parameters(model: Any) -> dict[str, int]:
    """Parameters of the prior, the CNP, WA (where the model has them) and in total; shared tensors count once."""
    counts = {
        part: sum(p.numel() for p in network.parameters())
        for part in PARTS
        if isinstance(network := getattr(model, part, None), nn.Module)
    }
    return counts | {"total": sum(p.numel() for p in model.parameters())}


def count_macs(function: Any, *arguments: Any) -> int:
    """Multiply-accumulates of one call, without gradients."""
    with torch.inference_mode(False), torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*arguments)
    return int(counter.get_total_flops()) // 2


def measure(
    model: "RestorationModel",
    sampling: "Sampling",
    size: tuple[int, int] = (256, 256),
    device: str = "cpu",
    repeats: int = 3,
) -> Complexity:
    """Cost of restoring one image of `size` (height, width): random input, as weights and content do not matter.

    Raises UsageError for `repeats` < 1.
    """
    if repeats < 1:
        raise UsageError(f"{repeats} repeats measure nothing. Use 1 or more.")
    from unclouded.models.padding import with_margin
    from unclouded.models.scales import pyramid
    from unclouded.restore import restore

    model.eval()
    y = torch.rand(1, model.frames * model.bands + model.sar, *size, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    steps = None if model.schedule is None else sampling.steps * sampling.samples
    images = [with_margin(image, sampling.margin) for image in pyramid(y, sampling.scales)]
    costs = [(_prior_macs(model, image), _step_macs(model, image)) for image in images]
    total = sum((prior or 0.0) * sampling.self_ensemble + (step or 0.0) * (steps or 0) for prior, step in costs)
    memory, seconds = _run(lambda: restore(model, y, sampling), device, repeats)
    return Complexity(count_parameters(model), *costs[0], total, 2 * total, memory, 1 / seconds, size, steps, device)


def _prior_macs(model: "RestorationModel", y: Tensor) -> float | None:
    macs = count_macs(model.reference, y)
    return macs / 1e9 if macs else None


def _step_macs(model: "RestorationModel", y: Tensor) -> float | None:
    if model.schedule is None:
        return None
    from unclouded.models.padding import pad_to_multiple

    padded = pad_to_multiple(2 * y - 1, model.multiple)
    has_reference = model.reference(y[..., :1, :1]) is not None
    x_t = padded[:, : model.bands]
    denoiser = model.denoiser(padded, x_t if has_reference else None)
    t = torch.zeros(len(y), dtype=torch.long, device=y.device)
    return count_macs(denoiser, x_t, t) / 1e9


def _run(function: Any, device: str, repeats: int) -> tuple[float | None, float]:
    """Peak memory in MB of the first call, and the median time of the others in seconds."""
    cuda = torch.device(device).type == "cuda"
    before = _start_peak(cuda)
    with torch.inference_mode():
        function()
        memory = _peak_mb(cuda, before)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return memory, sorted(times)[len(times) // 2]


def _start_peak(cuda: bool) -> float | None:
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        return 0.0
    try:  # Linux: forget the peak so far
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        return _status_mb("VmRSS")
    except OSError:
        return None


def _peak_mb(cuda: bool, before: float | None) -> float | None:
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    return None if before is None else max(0.0, _status_mb("VmHWM") - before)


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status")

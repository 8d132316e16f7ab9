"""Table X: what each method of the papers costs, measured on one image of noise (neither weights nor content
matter)."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unclouded.errors import UsageError
from unclouded.evaluation.figures import new_figure
from unclouded.evaluation.paper import published
from unclouded.evaluation.table_files import write_rows
from unclouded.scenes.failures import writing

if TYPE_CHECKING:
    from unclouded.models.base import RestorationModel

TITLE = "Table X: cost of each method"
# the paper's name -> our prior, "de:" and the prior below the paper's DE, or "diffcr" (of one date)
METHODS = {
    "SpA-GAN": "spagan",
    "AMGAN-CR": "amgan",
    "CVAE": "cvae",
    "pix2pix": "pix2pix",
    "MemoryNet": "memorynet",
    "MSDA-CR": "msda",
    "light (ours)": "light",
    "DE-MemoryNet": "de:memorynet",
    "DE-MSDA": "de:msda",
    "DiffCR": "diffcr",
}


# where our network is not the paper's to the last parameter, and why
DIFFERENCES = {
    "SpA-GAN": "the published file also holds tensors that have no effect",
    "MSDA-CR": "the published file also holds tensors that have no effect",
    "AMGAN-CR": "no code of the authors: widths are ours, chosen for the paper's count",
    "CVAE": "the paper states no widths: ours are chosen for the paper's count",
}


class Cost(NamedTuple):
    """One row. `parameters` of DE are those of CNP and WA together, as the paper counts; `note` says what differs."""

    method: str
    parameters: int
    published_parameters: float | None  # millions
    gmac: float
    gflop: float
    memory_mb: float | None
    images_per_second: float
    steps: int | None
    size: int
    device: str
    note: str


def measure_all(size: int, steps: int, repeats: int, only: Sequence[str], device: str) -> Iterator[Cost]:
    """Measure the methods one after the other (all, or those named), each in a process of its own: an allocator keeps
    what it once had, so the peak of a second method would be hidden below that of the first.

    Raises UsageError for an unknown name.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from unclouded.restore import choose_device

    unknown = [name for name in only if name not in METHODS]
    if unknown:
        raise UsageError(f"There is no method {unknown[0]!r} in Table X. Choose among: {', '.join(METHODS)}.")
    place = str(choose_device(device))
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for name in only or METHODS:
            yield pool.submit(_measure, name, METHODS[name], size, steps, repeats, place).result()


def _measure(name: str, kind: str, size: int, steps: int, repeats: int, device: str) -> Cost:
    from unclouded.evaluation.complexity import measure
    from unclouded.models.conversion import SAMPLING
    from unclouded.sampling import Sampling

    model: RestorationModel = _build(kind).to(device)
    found = measure(model, SAMPLING.get(kind, Sampling(steps=steps)), (size, size), device, repeats)
    is_de = kind.startswith("de:")
    own = found.parameters["cnp"] + found.parameters["wa"] if is_de else found.parameters["total"]
    printed = published()["table10"].get("DE" if is_de else name, {}).get("parameters")
    return Cost(
        name, own, printed, found.gmac_image, found.gflop_image, found.peak_memory_mb, found.images_per_second,
        found.steps, size, device, _note(name, own, printed, is_de),
    )  # fmt: skip


def _build(kind: str) -> Any:
    from unclouded.models.de import DE, paper_config
    from unclouded.models.registry import build_model

    if kind.startswith("de:"):
        return DE(paper_config(prior=kind.removeprefix("de:")))
    if kind == "diffcr":
        return build_model(kind, {"bands": 3, "frames": 1})
    return build_model("prior", {"bands": 3, "prior": kind})


def _note(name: str, own: int, printed: float | None, is_de: bool) -> str:
    """What the numbers are of, how far the count is from the paper's, and why the network differs."""
    said = ["CNP and WA; GMAC and speed with the prior"] if is_de else []
    difference = 0.0 if printed is None else own / 1e6 - printed
    if abs(difference) >= 0.006:
        said.append(f"{abs(difference):.2f} M {'more' if difference > 0 else 'fewer'}")
    return ": ".join(filter(None, ("; ".join(said), DIFFERENCES.get(name, ""))))


def write(rows: Sequence[Cost], out: Path) -> list[Path]:
    """OUT/table10.csv, .md and .tex, and .png where matplotlib is installed."""
    header = ["method", "parameters / M", "paper / M", "GMAC", "GFLOP", "memory / MB", "images / s", "steps", "note"]
    first = rows[0]
    note = f"One image of {first.size}x{first.size} on {first.device}. 1 MAC = 2 FLOP, by torch's FlopCounterMode."
    texts = [header, *(_texts(row) for row in rows)]
    paths = list(write_rows(out, "table10", TITLE, note, texts).values())
    if find_spec("matplotlib"):
        paths.append(_cost_bars(rows, f"{TITLE}, {first.size}×{first.size}, {first.device}", out / "table10.png"))
    return paths


def _cost_bars(rows: Sequence[Cost], title: str, path: Path) -> Path:
    """Table X as a figure: parameters, operations and speed of each method, on logarithmic axes."""
    figure = new_figure(11, 1.2 + 0.3 * len(rows))
    axes = figure.subplots(1, 3, sharey=True)
    columns = {
        "parameters / M": [row.parameters / 1e6 for row in rows],
        "GMAC an image": [row.gmac for row in rows],
        "images / s": [row.images_per_second for row in rows],
    }
    for axis, (label, values) in zip(axes, columns.items(), strict=True):
        axis.barh(range(len(rows)), values)
        axis.set(yticks=range(len(rows)), yticklabels=[row.method for row in rows], xlabel=label, xscale="log")
    axes[0].invert_yaxis()
    figure.suptitle(title)
    with writing(path):
        figure.savefig(path, dpi=120)
    return path


def _texts(row: Cost) -> list[str]:
    return [
        row.method,
        f"{row.parameters / 1e6:.2f}",
        "–" if row.published_parameters is None else f"{row.published_parameters:.2f}",
        f"{row.gmac:.2f}",
        f"{row.gflop:.2f}",
        "not measured" if row.memory_mb is None else f"{row.memory_mb:.0f}",
        f"{row.images_per_second:.3g}",
        "–" if row.steps is None else str(row.steps),
        row.note,
    ]

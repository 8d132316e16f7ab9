"""The papers' tables from model files and data at hand: one cell per method and data set, kept so that a run can
resume.

A cell that cannot be measured, because its model file, its data or its metric's network is not here, says "not run
here" and never a number.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from unclouded.errors import UsageError

if TYPE_CHECKING:
    from unclouded.datasets.pairs import Pair
    from unclouded.evaluation.methods import Method
    from unclouded.evaluation.whole import Whole

NOT_RUN = "not run here"
DIFFCR_METRICS = ("psnr", "ssim", "fid", "lpips")  # of Zou et al.'s tables
DIGITS = {"psnr": 2, "ssim": 3, "lpips": 4, "fid": 2}


class Row(NamedTuple):
    """One method: its name in the paper and the model files that can stand for it, `{data}` being the data set.

    A file of DE over a prior also stands for the prior alone, and without its prior for pure diffusion (`what`).
    """

    title: str
    candidates: tuple[
        tuple[str, str], ...
    ]  # (file stem, what: model, prior or diffusion), the first that is there counts


def _prior(title: str, name: str) -> Row:
    return Row(title, ((f"{name}-{{data}}", "model"), (f"de-{name}-{{data}}", "prior")))


def _de(title: str, name: str) -> Row:
    return Row(title, ((f"de-{name}-{{data}}", "model"),))


SEN2_MTC = ("sen2-mtc-old", "sen2-mtc-new")
CLOUDY = Row("cloudy input", (("", "input"),))
METHODS = (
    CLOUDY,
    _prior("SpA-GAN", "spagan"),
    _prior("AMGAN-CR", "amgan"),
    _prior("CVAE", "cvae"),
    _prior("pix2pix", "pix2pix"),
    _prior("MemoryNet", "memorynet"),
    _prior("MSDA-CR", "msda"),
    _de("DE-MemoryNet", "memorynet"),
    _de("DE-MSDA", "msda"),
)


@dataclass(frozen=True)
class Table:
    """A table of scores: methods by data sets. `shrink` averages blocks of pixels of the test images (0.5 m -> 1 m)."""

    name: str
    title: str
    rows: tuple[Row, ...]
    data: tuple[str, ...]
    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips")
    shrink: tuple[int, ...] = (1,)


def _variants(*names: tuple[str, str, str]) -> tuple[Row, ...]:
    return tuple(Row(title, ((f"de-msda-{{data}}{suffix}", what),)) for title, suffix, what in names)


def _diffcr(*names: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(title, ((f"diffcr-{{data}}{suffix}", "model"),)) for title, suffix in names)


TABLES = {
    table.name: table
    for table in (
        Table("table5", "Table V: RICE", METHODS, ("rice1", "rice2")),
        Table("table6", "Table VI: CUHK-CR", METHODS, ("cuhk-cr1", "cuhk-cr2")),
        Table(
            "table7",
            "Table VII: trained at one resolution, tested at another",
            _variants(
                ("trained at 0.5 m", "", "model"), ("trained at 1 m", "-1m", "model"), ("at 2 m", "-2m", "model")
            ),
            ("cuhk-cr1", "cuhk-cr2"),
            shrink=(1, 2),
        ),
        Table(
            "table8",
            "Table VIII: coarse-to-fine training",
            _variants(("fine only", "-fine", "model"), ("coarse to fine", "", "model")),
            ("rice2", "cuhk-cr1"),
        ),
        Table(
            "table9",
            "Table IX: reference prior, weight allocation, joint training",
            _variants(
                ("pure diffusion", "", "diffusion"),
                ("reference prior alone", "", "prior"),
                ("DE, not trained jointly", "-weights", "model"),
                ("DE", "", "model"),
            ),
            ("rice2", "cuhk-cr1"),
        ),
        Table(
            "diffcr-frames",
            "DiffCR: cloudy dates that it sees",
            (CLOUDY, *_diffcr(("N = 1", "-n1"), ("N = 2", "-n2"), ("N = 3", ""))),
            SEN2_MTC,
            DIFFCR_METRICS,
        ),
        Table(
            "diffcr-prediction",
            "DiffCR: what the network predicts",
            _diffcr(("x0", ""), ("ε", "-eps")),
            SEN2_MTC,
            DIFFCR_METRICS,
        ),
        Table(
            "diffcr-blocks",
            "DiffCR: pooled gates of its blocks",
            _diffcr(("mean and max (TCF)", ""), ("mean", "-mean"), ("max", "-max"), ("none", "-none")),
            SEN2_MTC,
            DIFFCR_METRICS,
        ),
    )
}


def get(name: str) -> Table:
    """The table of that name; UsageError names the known ones."""
    if name not in TABLES:
        raise UsageError(f"There is no table {name!r}. Choose one of: {', '.join(TABLES)}.")
    return TABLES[name]


@cache
def published() -> dict[str, Any]:
    """Table -> method -> data set -> metric -> number, as printed."""
    text = (files("unclouded.evaluation") / "published.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@dataclass(frozen=True)
class Setting:
    """Where things are and how to score: what a cell depends on besides its method."""

    models: Path
    data: Mapping[str, "Sequence[Pair]"]  # data set -> test pairs
    out: Path
    protocol: str = "paper"
    sampling: Mapping[str, Any] | None = None  # changes to the models' own
    lpips: Path | None = None
    fid: Path | None = None
    device: str = "auto"

    def networks(self, metrics: Sequence[str]) -> dict[str, Path | None]:
        """The files of those of these metrics that need a network."""
        return {name: file for name, file in (("lpips", self.lpips), ("fid", self.fid)) if name in metrics}


class Cell(NamedTuple):
    """`values` is empty where nothing could be measured, and `reason` says why; `lacking` which metrics of the
    table are not among them."""

    method: str
    data: str
    shrink: int
    values: dict[str, dict[str, float | None]]
    n: int = 0
    split_hash: str = ""
    reason: str = ""
    lacking: Sequence[tuple[str, str]] = ()  # (metric, why it is absent)


def run(table: Table, setting: Setting) -> Iterator[Cell]:
    """Measure the table's cells one after the other; those in OUT/cells that were measured alike are taken from
    there. Raises UsageError if the file of a metric's network is absent."""
    _whole(table.metrics, setting)
    for row in table.rows:
        for data in table.data:
            for shrink in table.shrink:
                yield _cell(row, data, shrink, table.metrics, setting)


def _cell(row: Row, data: str, shrink: int, metrics: Sequence[str], setting: Setting) -> Cell:
    if data not in setting.data:
        return Cell(row.title, data, shrink, {}, reason=f"{NOT_RUN}: no data given for {data}")
    found = _find(row, data, setting.models)
    if found is None:
        names = " or ".join(f"{stem.format(data=data)}.safetensors" for stem, _ in row.candidates)
        return Cell(row.title, data, shrink, {}, reason=f"{NOT_RUN}: {names} is not in {setting.models}")
    path, what = found
    pairs = setting.data[data]
    kept = setting.out / "cells" / f"{_key(path, what, pairs, shrink, metrics, setting)}.json"
    if kept.is_file():
        return Cell(row.title, *json.loads(kept.read_text(encoding="utf-8")))
    cell = _measure(row.title, data, shrink, metrics, path, what, setting)
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".part")
    partial.write_text(json.dumps(cell[1:]), encoding="utf-8")
    partial.replace(kept)
    return cell


def _find(row: Row, data: str, models: Path) -> tuple[Path | None, str] | None:
    for stem, what in row.candidates:
        if what == "input":
            return None, what
        path = models / f"{stem.format(data=data)}.safetensors"
        if path.is_file():
            return path, what
    return None


def _key(
    path: Path | None, what: str, pairs: "Sequence[Pair]", shrink: int, metrics: Sequence[str], setting: Setting
) -> str:
    """A cell is the same where model bytes, images, protocol, metrics and their networks, and sampling are."""
    from unclouded.datasets.splits import hash_stems
    from unclouded.models.store import sha256

    parts = {
        "model": sha256(path) if path else "",
        "what": what,
        "images": hash_stems(str(pair.cloudy) for pair in pairs),
        "shrink": shrink,
        "protocol": setting.protocol,
        "sampling": dict(setting.sampling or {}),
        "metrics": list(metrics),
        "networks": {name: file and sha256(file) for name, file in setting.networks(metrics).items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _measure(
    title: str, data: str, shrink: int, metrics: Sequence[str], path: Path | None, what: str, setting: Setting
) -> Cell:
    from unclouded.datasets.splits import hash_stems
    from unclouded.evaluation import inception, lpips
    from unclouded.evaluation.evaluate import as_json, evaluate, summarise
    from unclouded.evaluation.metrics import protocol

    method, whole = _method(path, what, setting), _whole(metrics, setting)
    scores = []
    for score in evaluate(method, setting.data[data], protocol(setting.protocol), shrink=shrink, more=whole.per_image):
        assert score.images is not None
        whole.feed(score.images)
        scores.append(replace(score, images=None))
    where = {"lpips": lpips.WHERE, "fid": inception.WHERE}
    lacking = {name: where[name] for name, file in setting.networks(metrics).items() if file is None}
    values = {name: as_json(interval) for name, interval in summarise(scores).items()}
    try:
        values |= {name: {"mean": value} for name, value in whole.result().items() if name == "fid"}
    except UsageError as error:  # too few images
        lacking["fid"] = str(error)
    return Cell(title, data, shrink, values, len(scores), hash_stems(s.stem for s in scores), "", list(lacking.items()))


def _whole(metrics: Sequence[str], setting: Setting) -> "Whole":
    from unclouded.evaluation.whole import Whole

    networks = setting.networks(metrics)
    return Whole.open(setting.protocol, networks.get("lpips"), networks.get("fid"))


def _method(path: Path | None, what: str, setting: Setting) -> "Method":
    from unclouded.evaluation.methods import Input, Model, Prior, changed

    if path is None:
        return Input()
    from unclouded.restore import load

    restorer = load(str(path), device=setting.device)
    if what == "prior":
        return Prior(restorer)
    return Model(restorer, changed(restorer.card.sampling, setting.sampling or {}), use_prior=what != "diffusion")


def write(table: Table, cells: Sequence[Cell], protocol: str, out: Path) -> dict[str, Path]:
    """OUT/TABLE.csv, .md and .tex: ours, with the number of images and split hash, beside the published numbers; and
    .png where something was measured and matplotlib is installed."""
    out.mkdir(parents=True, exist_ok=True)
    paths = {kind: out / f"{table.name}.{kind}" for kind in ("csv", "md", "tex")}
    header = [
        "method",
        "data",
        "shrink",
        *(f"{m} {who}" for m in table.metrics for who in ("ours", "paper")),
        "n",
        "split",
        "note",
    ]
    rows = [[*_texts(table, cell)] for cell in cells]
    with paths["csv"].open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    note = " ".join(
        [
            f"Protocol `{protocol}`. Published numbers are on the paper's own random split: not the same images.",
            *(f"{NOT_RUN.capitalize()}: {sentence}" for sentence in lacking(cells)),
        ]
    )
    bars = ["---"] * len(header)
    lines = [f"**{table.title}**", "", *(f"| {' | '.join(map(str, r))} |" for r in (header, bars, *rows)), "", note, ""]
    paths["md"].write_text("\n".join(lines), encoding="utf-8")
    paths["tex"].write_text(latex(table.title, note, [header, *rows]), encoding="utf-8")
    measured = [cell for cell in cells if cell.values]
    if measured and find_spec("matplotlib"):
        from unclouded.evaluation.figures import score_bars

        paths["png"] = score_bars(measured, table.title, out / f"{table.name}.png")
    return paths


def lacking(cells: Sequence[Cell]) -> list[str]:
    """Why metrics are absent, and where to get what they need: each sentence once."""
    return list(dict.fromkeys(sentence for cell in cells for _, sentence in cell.lacking))


def latex(title: str, note: str, rows: Sequence[Sequence[str]]) -> str:
    """A `tabular` of these rows, the first being its header."""
    body = " \\\\\n".join(" & ".join(map(_tex, row)) for row in rows)
    return f"% {title}. {note}\n\\begin{{tabular}}{{{'l' * len(rows[0])}}}\n{body} \\\\\n\\end{{tabular}}\n"


def _texts(table: Table, cell: Cell) -> Iterator[str]:
    yield from (cell.method, cell.data, str(cell.shrink))
    printed = published().get(table.name, {}).get(cell.method, {}).get(cell.data, {}) if cell.shrink == 1 else {}
    for metric in table.metrics:
        mean = cell.values.get(metric, {}).get("mean")
        absent = f"{NOT_RUN} (needs --{metric})" if metric in dict(cell.lacking) else "–"
        yield NOT_RUN if cell.reason else absent if mean is None else f"{mean:.{DIGITS[metric]}f}"
        yield f"{printed[metric]:.{DIGITS[metric]}f}" if metric in printed else "–"
    yield from (str(cell.n), cell.split_hash[:12], cell.reason)


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("–", "--")):
        text = text.replace(plain, escaped)
    return text

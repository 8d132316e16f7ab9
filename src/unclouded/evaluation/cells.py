"""A table's cells, one per method and data set: measured one after the other, and kept so that a run can resume.

A cell that cannot be measured, because its model file, its data or its metric's network is not here, says "not run
here" and never a number.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unclouded.errors import UsageError
from unclouded.evaluation.paper import Row, Table
from unclouded.scenes.failures import make_folder, writing

if TYPE_CHECKING:
    from unclouded.datasets.pairs import Pair
    from unclouded.evaluation.methods import Method
    from unclouded.evaluation.whole import Whole

NOT_RUN = "not run here"


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
    partial = make_folder(kept.parent) / f"{kept.stem}.part"
    with writing(kept):
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
    from unclouded.evaluation.methods import Input, Model, Prior
    from unclouded.sampling import changed

    if path is None:
        return Input()
    from unclouded.restore import load

    restorer = load(str(path), device=setting.device)
    if what == "prior":
        return Prior(restorer)
    return Model(restorer, changed(restorer.card.sampling, setting.sampling or {}), use_prior=what != "diffusion")

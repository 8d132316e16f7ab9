"""Tables as files: rows as CSV, Markdown and LaTeX; and the cells of a paper's table beside the published numbers."""

import csv
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from unclouded.evaluation.cells import NOT_RUN, Cell
from unclouded.evaluation.figures import new_figure
from unclouded.evaluation.paper import Table, published
from unclouded.scenes.failures import make_folder, writing

DIGITS = {"psnr": 2, "ssim": 3, "lpips": 4, "fid": 2}


def write(table: Table, cells: Sequence[Cell], protocol: str, out: Path) -> dict[str, Path]:
    """OUT/TABLE.csv, .md and .tex: ours, with the number of images and split hash, beside the published numbers; and
    .png where something was measured and matplotlib is installed."""
    scores = [f"{metric} {who}" for metric in table.metrics for who in ("ours", "paper")]
    header = ["method", "data", "shrink", *scores, "n", "split", "note"]
    sentences = [
        f"Protocol `{protocol}`. Published numbers are on the paper's own random split: not the same images.",
        *(f"{NOT_RUN.capitalize()}: {sentence}" for sentence in lacking(cells)),
    ]
    rows = [[*_texts(table, cell)] for cell in cells]
    paths = write_rows(out, table.name, table.title, " ".join(sentences), [header, *rows])
    measured = [cell for cell in cells if cell.values]
    if measured and find_spec("matplotlib"):
        paths["png"] = _score_bars(measured, table.title, out / f"{table.name}.png")
    return paths


def lacking(cells: Sequence[Cell]) -> list[str]:
    """Why metrics are absent, and where to get what they need: each sentence once."""
    return list(dict.fromkeys(sentence for cell in cells for _, sentence in cell.lacking))


def _score_bars(cells: Sequence[Cell], title: str, path: Path) -> Path:
    """A table as a figure: PSNR of each method and its 95 % interval, a group of bars per data set."""
    figure = new_figure(9, 1 + 0.28 * len(cells))
    axis = figure.subplots()
    names = [
        f"{cell.method}, {cell.data}" + (f", {cell.shrink}×{cell.shrink} pixels" if cell.shrink > 1 else "")
        for cell in cells
    ]
    scores = [[cell.values["psnr"][key] for key in ("mean", "low", "high")] for cell in cells]
    means, low, high = np.array(scores, dtype=float).T
    axis.barh(range(len(cells)), means, xerr=np.maximum((means - low, high - means), 0), capsize=2)
    axis.set(
        yticks=range(len(cells)), yticklabels=names, xlabel="PSNR / dB, 95 % interval over the images", title=title
    )
    axis.invert_yaxis()
    with writing(path):
        figure.savefig(path, dpi=120)
    return path


def _texts(table: Table, cell: Cell) -> Iterator[str]:
    yield from (cell.method, cell.data, str(cell.shrink))
    printed = published().get(table.name, {}).get(cell.method, {}).get(cell.data, {}) if cell.shrink == 1 else {}
    for metric in table.metrics:
        mean = cell.values.get(metric, {}).get("mean")
        absent = f"{NOT_RUN} (needs --{metric})" if metric in dict(cell.lacking) else "–"
        yield NOT_RUN if cell.reason else absent if mean is None else f"{mean:.{DIGITS[metric]}f}"
        yield f"{printed[metric]:.{DIGITS[metric]}f}" if metric in printed else "–"
    yield from (str(cell.n), cell.split_hash[:12], cell.reason)


def write_rows(out: Path, name: str, title: str, note: str, rows: Sequence[Sequence[str]]) -> dict[str, Path]:
    """OUT/NAME.csv, .md and .tex of these rows, the first being their header; the latter two with title and note."""
    paths = {kind: make_folder(out) / f"{name}.{kind}" for kind in ("csv", "md", "tex")}
    with writing(out):
        with paths["csv"].open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        paths["md"].write_text(_markdown(title, note, rows), encoding="utf-8")
        paths["tex"].write_text(_latex(title, note, rows), encoding="utf-8")
    return paths


def _markdown(title: str, note: str, rows: Sequence[Sequence[str]]) -> str:
    header, *body = (f"| {' | '.join(row)} |" for row in rows)
    bars = f"| {' | '.join(['---'] * len(rows[0]))} |"
    return "\n".join([f"**{title}**", "", header, bars, *body, "", note, ""])


def _latex(title: str, note: str, rows: Sequence[Sequence[str]]) -> str:
    body = " \\\\\n".join(" & ".join(map(_tex, row)) for row in rows)
    return f"% {title}. {note}\n\\begin{{tabular}}{{{'l' * len(rows[0])}}}\n{body} \\\\\n\\end{{tabular}}\n"


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"), ("–", "--")):
        text = text.replace(plain, escaped)
    return text

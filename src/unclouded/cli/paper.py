"""`unclouded paper`: the papers' tables and figures, from model files and data at hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from unclouded.errors import UncloudedError, UsageError

TABLES = {
    "table5": "Table V: methods on RICE1 and RICE2.",
    "table6": "Table VI: methods on CUHK-CR1 and -CR2.",
    "table7": "Table VII: trained at one resolution, tested at another.",
    "table8": "Table VIII: with and without coarse-to-fine training.",
    "table9": "Table IX: prior, weight allocation, joint training.",
    "diffcr-frames": "DiffCR on Sen2_MTC: one, two and three cloudy dates.",
    "diffcr-prediction": "DiffCR on Sen2_MTC: x0 against ε prediction.",
    "diffcr-blocks": "DiffCR on Sen2_MTC: variants of its block (ours: which pooled gates it has).",
}
FIGURES = {
    "fig4": "x0 over the steps, with and without the reference prior",
    "fig8": "heat maps of W",
    "fig9": "mean of W at every step",
    "fig11": "metrics over η, the least weight of the prior",
}


LPIPS = click.option(
    "--lpips", type=click.Path(path_type=Path), help="AlexNet weights (torchvision's file): adds LPIPS."
)


@click.group()
def paper() -> None:
    """Make the tables and figures of the DE paper and DiffCR's. What cannot be measured here says "not run here"."""


def _sampling_options(command: Callable[..., None], whose: str = "each model's") -> Callable[..., None]:
    options = (
        click.option("--steps", type=click.IntRange(min=1), help=f"Sampling steps (default: {whose})."),
        click.option("--sampler", type=click.Choice(["ddim", "ddpm", "dpm", "unipc"]), help=f"Default: {whose}."),
        click.option("--weight-floor", type=click.FloatRange(0, 1), help=f"Default: {whose}."),
        click.option("--seed", type=click.IntRange(min=0), help=f"Default: {whose}."),
        click.option("--limit", type=click.IntRange(min=1), help="At most this many images, evenly spaced."),
        click.option("--protocol", default="paper", show_default=True, help="paper or standard."),
        click.option("--device", default="auto", show_default=True),
        click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for what is made."),
        click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _data_options(command: Callable[..., None]) -> Callable[..., None]:
    pairs = click.Path(path_type=Path)
    options = (
        click.option("--data", type=pairs, required=True, help="Pairs of cloudy and clear images."),
        click.option("--split", help="A part of the data (see evaluate)."),
        click.option("--dataset", help="The known data set whose layout --data has (`unclouded data list`)."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    names = ("steps", "sampler", "weight_floor", "seed")
    return {name: options[name] for name in names if options[name] is not None}


def _score_table(name: str) -> None:
    @paper.command(name=name)
    @click.option("--models", type=click.Path(path_type=Path), required=True, help="Folder of METHOD-DATA.safetensors.")
    @click.option("--data", "folders", multiple=True, metavar="NAME=DIR", help="Where a data set lies (repeatable).")
    @click.option(
        "--split", "splits", multiple=True, metavar="NAME=SPLIT", help="Its part (default: NAME-val or test)."
    )
    @LPIPS
    @click.option("--fid", type=click.Path(path_type=Path), help="Inception weights (torch-fidelity's file): adds FID.")
    @click.option(
        "--shrink", type=click.IntRange(min=1), help="Average blocks of N×N pixels first (default: the table's)."
    )
    @_sampling_options
    def table(models: Path, folders: tuple[str, ...], splits: tuple[str, ...], **options: Any) -> None:
        from unclouded.evaluation import metrics
        from unclouded.evaluation import paper as tables
        from unclouded.evaluation.cells import Setting, run
        from unclouded.evaluation.table_files import lacking, write
        from unclouded.scenes.failures import make_folder

        metrics.protocol(options["protocol"])
        if not models.is_dir():
            raise UncloudedError(f"There is no folder {models}. Give the one that holds METHOD-DATA.safetensors.")
        wanted = tables.get(name)
        if options["shrink"]:
            wanted = replace(wanted, shrink=(options["shrink"],))
        if options["fid"] and "fid" not in wanted.metrics:
            wanted = replace(wanted, metrics=(*wanted.metrics, "fid"))
        data = _read_data(wanted.data, _pairs_of(folders), _pairs_of(splits), options["limit"])
        named = {key: options[key] for key in ("out", "protocol", "lpips", "fid", "device")}
        setting = Setting(models, data, sampling=_changes(options), **named)
        make_folder(options["out"])
        cells = []
        for cell in run(wanted, setting):
            cells.append(cell)
            psnr = cell.values.get("psnr", {}).get("mean")
            what = cell.reason or f"PSNR {psnr:.2f} dB on {cell.n} images"
            click.echo(
                f"{cell.method} on {cell.data}{f' / {cell.shrink}' if cell.shrink > 1 else ''}: {what}", err=True
            )
        for sentence in lacking(cells):
            click.echo(f"Not run here: {sentence}", err=True)
        _report(write(wanted, cells, options["protocol"], options["out"]).values())
        if options["as_json"]:
            click.echo(json.dumps({"table": name, "cells": [cell._asdict() for cell in cells]}))

    table.help = TABLES[name]


for _name in TABLES:
    _score_table(_name)


def _pairs_of(values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not equals or not rest:
            raise UsageError(f"{value!r} is not of the form NAME=VALUE. Write, for example, rice2=data/rice2.")
        found[name] = rest
    return found


def _read_data(
    names: tuple[str, ...], folders: dict[str, str], splits: dict[str, str], limit: int | None
) -> dict[str, Any]:
    from unclouded.datasets import splits as written
    from unclouded.datasets.pairs import read_pairs
    from unclouded.evaluation.evaluate import spread_out

    unknown = sorted((folders.keys() | splits.keys()) - set(names))
    if unknown:
        raise UsageError(f"This table has no data set {unknown[0]!r}. It has: {', '.join(names)}.")
    data = {}
    for name, folder in folders.items():
        default = f"{name}-val" if f"{name}-val" in written.names() else "test"
        data[name] = spread_out(read_pairs(folder, splits.get(name, default), dataset=name), limit)
    return data


@paper.command()
@click.option("--size", type=click.IntRange(min=16), default=256, show_default=True, help="Side of the image.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=50, show_default=True, help="Sampling steps of DE (DiffCR: 21)."
)
@click.option(
    "--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Runs whose median time counts."
)
@click.option("--only", multiple=True, help="Only these methods (repeatable).")
@click.option("--device", default="auto", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for what is made.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
def table10(size: int, steps: int, repeats: int, only: tuple[str, ...], device: str, out: Path, as_json: bool) -> None:
    """Table X: operations, memory, parameters and speed of each method, measured on this machine."""
    from unclouded.evaluation import costs
    from unclouded.scenes.failures import make_folder

    make_folder(out)
    rows = []
    for row in costs.measure_all(size, steps, repeats, only, device):
        rows.append(row)
        click.echo(f"{row.method}: {row.parameters / 1e6:.2f} M parameters, {row.gmac:.2f} GMAC, "
                   f"{row.images_per_second:.3g} images/s", err=True)  # fmt: skip
    _report(costs.write(rows, out))
    if as_json:
        click.echo(json.dumps({"table": "table10", "rows": [row._asdict() for row in rows]}))


def _figure(name: str) -> None:
    @paper.command(name=name, help=f"Figure {name[3:]}: {FIGURES[name]}.")
    @click.option(
        "--model", default="base", show_default=True, help="A shipped model's name, a model file, or hf://OWNER/NAME."
    )
    @_data_options
    @click.option("--stem", help="The image to show (default: the first).")
    @partial(_sampling_options, whose="as in the quality `paper`")
    def figure(model: str, data: Path, split: str | None, stem: str | None, **options: Any) -> None:
        from unclouded.datasets.pairs import read_pairs, select
        from unclouded.evaluation import figures, metrics
        from unclouded.evaluation.evaluate import spread_out
        from unclouded.evaluation.whole import Whole
        from unclouded.restore import load
        from unclouded.sampling import changed
        from unclouded.scenes.failures import make_folder

        protocol = metrics.protocol(options["protocol"])
        pairs = spread_out(read_pairs(data, split, options["dataset"]), options["limit"])
        pairs = select(pairs, [stem], data) if stem else pairs
        restorer = load(model, device=options["device"])
        sampling = changed(restorer.card.at("paper"), _changes(options))
        make_folder(options["out"])
        if name == "fig11":
            more = Whole.open(options["protocol"], options["lpips"], None).per_image
            made = figures.metrics_over_floor(restorer, pairs, sampling, options["out"], protocol, more=more)
        elif name == "fig9":
            made = figures.mean_weights(restorer, pairs, sampling, options["out"])
        else:
            draw = figures.x0_over_steps if name == "fig4" else figures.weight_map
            made = draw(restorer, pairs[0], sampling, options["out"])
        _report(made)
        if options["as_json"]:
            click.echo(json.dumps({"figure": name, "files": [str(path) for path in made]}))

    if name == "fig11":
        LPIPS(figure)


for _name in FIGURES:
    _figure(_name)


def _report(paths: Any) -> None:
    for path in paths:
        click.echo(f"wrote {path}", err=True)


@paper.command(name="fig6")
@click.option(
    "--model", "models", multiple=True, required=True, help="A model's name or file (repeatable): a column each."
)
@click.option("--prior", is_flag=True, help="Also a column for the prior of each model.")
@_data_options
@click.option("--stem", "stems", multiple=True, help="An image to show (repeatable).")
@click.option("--extremes", type=click.IntRange(min=1), help="The N best, median and worst images of the first model.")
@_sampling_options
def fig6(models: tuple[str, ...], prior: bool, data: Path, split: str | None, stems: tuple[str, ...],
         extremes: int | None, **options: Any) -> None:  # fmt: skip
    """Figures 6 and 7: comparison sheets, cloudy | models | clear. Without --stem or --extremes: the first images."""
    from unclouded.datasets.pairs import read_pairs, select
    from unclouded.evaluation import sheets
    from unclouded.evaluation.evaluate import evaluate, spread_out
    from unclouded.evaluation.methods import Input, Model, Prior, to_unit
    from unclouded.evaluation.metrics import protocol
    from unclouded.restore import load
    from unclouded.sampling import changed
    from unclouded.scenes.failures import make_folder

    name = str(click.get_current_context().info_name)  # fig6 or fig7
    score = protocol(options["protocol"])
    pairs = spread_out(read_pairs(data, split, options["dataset"]), options["limit"])
    pairs = select(pairs, list(stems), data) if stems else pairs
    methods: dict[str, Any] = {}
    for model in models:
        restorer = load(model, device=options["device"])
        if prior:
            methods[f"{restorer.card.name}: prior"] = Prior(restorer)
        methods[restorer.card.name] = Model(restorer, changed(restorer.card.sampling, _changes(options)))
    make_folder(options["out"])
    ranking = methods[list(methods)[1 if prior else 0]]
    groups = {name: [pair.stem for pair in pairs]}
    if extremes is not None:
        found = sheets.extremes(list(evaluate(ranking, pairs, score)), extremes)
        groups = {f"{name}-{which}": chosen for which, chosen in found.items()}
    made = []
    for title, chosen in groups.items():
        rows: dict[str, list[Any]] = {}
        for pair in select(pairs, chosen, data):
            scores = [next(evaluate(m, [pair], score)) for m in (Input(ranking.bands), *methods.values())]
            clear = to_unit(pair.read_clear(), ranking.bands)
            caption = f"{pair.stem}: " + ", ".join(f"{s.values['psnr']:.2f} dB" for s in scores)
            rows[caption] = [*(s.images.restored for s in scores if s.images), clear]
        made.append(sheets.sheet(rows, ["cloudy", *methods, "clear"], options["out"] / f"{title}.png"))
    _report(made)
    if options["as_json"]:
        click.echo(json.dumps({"figure": name, "files": [str(path) for path in made]}))


paper.add_command(fig6, "fig7")  # Fig. 6 is of RICE, Fig. 7 of CUHK-CR

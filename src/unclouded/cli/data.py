"""`unclouded data`: the public data sets, checks of what is on disk, pairs from scenes and simulated ones."""

import json
from pathlib import Path
from typing import Any

import click

from unclouded.cli.data_cloud_net import data_cloud_net
from unclouded.cli.data_prepare import data_prepare
from unclouded.cli.data_simulate import data_simulate
from unclouded.errors import UncloudedError


@click.group()
def data() -> None:
    """List, check, prepare and simulate training data."""


data.add_command(data_cloud_net)
data.add_command(data_prepare)
data.add_command(data_simulate)


@data.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def list_(as_json: bool) -> None:
    """List the public data sets that can be read, and the written splits."""
    from unclouded.datasets import catalog, splits

    entries = catalog.catalog()
    lists = {name: {"n": len(splits.split(name)), "hash": splits.split_hash(name)} for name in splits.names()}
    if as_json:
        click.echo(json.dumps({"data_sets": [e.model_dump(mode="json") for e in entries.values()], "splits": lists}))
        return
    for entry in entries.values():
        counts = ", ".join(f"{n} {part}" for part, n in entry.counts.items()) or "count not stated"
        click.echo(f"{entry.name:<14} {len(entry.bands):>2} bands  {entry.gsd:<18} {counts:<32} {entry.sensor}")
    click.echo("Written splits (for --split):")
    for name, facts in lists.items():
        click.echo(f"{name:<20} {facts['n']:>4} images  sha256 {str(facts['hash'])[:12]}")


@data.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def info(name: str, as_json: bool) -> None:
    """Say what is known of the data set NAME: source, terms, size, layout, splits, and what is wrong with it."""
    from unclouded.datasets import catalog

    entry = catalog.get(name)
    facts = entry.model_dump(mode="json") | {"written_lists": entry.written_lists}
    if as_json:
        click.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        for line in value if isinstance(value, list) and key == "problems" else [_plain(value)]:
            click.echo(f"{key.replace('_', ' '):<14} {line}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "not stated"
    return ", ".join(value) if isinstance(value, list) else str(value)


@data.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--dataset",
    help="The data set whose layout this is; without it: cloud/ and label/, cloudy/ and clear/, or a CSV.",
)
@click.option("--split", help="Check only this part: its own name, a written list, or a file of stems.")
@click.option("--quick", is_flag=True, help="Read the files' headers only, not every pixel.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON on stdout.")
def check(directory: Path, dataset: str | None, split: str | None, quick: bool, as_json: bool) -> None:
    """Check DIRECTORY: partners, sizes, bands, damaged files, copies and, for a known data set, what a download lacks.

    Exits with 1 if a file is wrong or a pair is missing from a known data set.
    """
    found = (
        _check_known(directory, dataset, quick) if dataset and not split else _check(directory, dataset, split, quick)
    )
    if as_json:
        click.echo(json.dumps({"data": str(directory), "dataset": dataset} | found))
    counts = ", ".join(f"{n} {part}" for part, n in found["pairs"].items())
    click.echo(f"{directory}: {counts or 'no'} pairs", err=True)
    for kind in ("problems", "missing"):
        for sentence in found[kind]:
            click.echo(f"{'Missing: ' if kind == 'missing' else ''}{sentence}", err=True)
    if found.get("leaks"):
        click.echo(f"{found['leaks']} pairs are known copies or bad labels; `--drop-leaks` leaves them out.", err=True)
    for stem, other in found["copies"]:
        click.echo(f"{stem} is a copy of {other}; a file of the other stems as --split leaves it out.", err=True)
    if found["problems"] or found["missing"]:
        wrong = len(found["problems"]) + len(found["missing"])
        raise UncloudedError(
            f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong with {directory}. Mend what is listed."
        )


def _check_known(directory: Path, dataset: str, quick: bool) -> dict[str, Any]:
    from unclouded.datasets import catalog

    return catalog.check(dataset, directory, pixels=not quick)._asdict()


def _check(directory: Path, dataset: str | None, split: str | None, quick: bool) -> dict[str, Any]:
    from unclouded.datasets.pairs import check_pairs
    from unclouded.datasets.problems import copies

    pairs, problems = check_pairs(directory, split, dataset, pixels=not quick)
    return {"pairs": {"all": len(pairs)}, "problems": problems, "missing": [], "copies": [] if quick else copies(pairs)}

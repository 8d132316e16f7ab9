"""`unclouded data simulate`: pairs with simulated clouds, over clear images or generated landscapes."""

import json
from pathlib import Path
from typing import Any

import click

from unclouded.cli.bars import bar


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(","))


@click.command(name="simulate")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--clear", type=click.Path(path_type=Path), help="Folder of clear images to put clouds over.")
@click.option("--landscapes", type=click.IntRange(min=1), default=None, help="Generate this many landscapes instead.")
@click.option("--kind", default="all", show_default=True, help="thin, thick, shadow, mixed, or all of them in turn.")
@click.option("--size", type=click.IntRange(min=1), help="Side of a random crop (default: whole; landscapes 256).")
@click.option("--per-image", type=click.IntRange(min=1), default=1, show_default=True, help="Pairs from each image.")
@click.option("--bands", callback=_names, help="Names of the images' bands; of a landscape: red,green,blue,nir.")
@click.option("--gsd", type=float, help="Ground sample distance in metres (default: drawn from 0.5 to 30).")
@click.option("--coverage", type=float, help="Share of the area under clouds (default: drawn).")
@click.option("--opacity", type=float, help="Largest opacity (default: drawn).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON on stdout.")
def data_simulate(out: Path, clear: Path | None, landscapes: int | None, as_json: bool, **options: Any) -> None:
    """Write pairs of simulated cloudy and clear images to the folder OUT.

    OUT gets cloud/, label/ and pairs.csv, which every other command takes as --data. Pairs that exist are kept, so the
    same command again goes on after an interruption.
    """
    from unclouded.datasets.simulated import SimulationOptions, count_pairs, simulate_pairs

    settings = SimulationOptions(**options)
    made = kept = 0
    total = None
    pairs = simulate_pairs(out, clear=clear, landscapes=landscapes or 0, options=settings)
    with bar("simulating") as show:
        for _, new in pairs:
            made, kept = made + new, kept + (not new)
            if show is not None:
                total = total or count_pairs(clear, landscapes or 0, settings)
                show(made + kept, total)
    click.echo(f"{made} pairs made, {kept} kept in {out}", err=True)
    if as_json:
        click.echo(json.dumps({"out": str(out), "made": made, "kept": kept, "seed": settings.seed}))

"""`unclouded train`: one recipe, one folder; the same command again resumes."""

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unclouded.cli import is_first_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from unclouded.training.loop import Progress


@click.command()
@click.argument("recipe")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the recipe's data.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints, log, samples and model."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a value, as stages.joint.lr=1e-4; init=base fine-tunes the model base.",
)
@click.option("--bands", metavar="NAMES", help="Names of the files' bands, in order: B2,B3,B4,B8. Sets the model's.")
@click.option("--units", type=click.Choice(["display", "reflectance"]), help="What their numbers are.")
@click.option("--simulate", is_flag=True, help="--data holds clear images; train on them under simulated clouds.")
@click.option(
    "--stage", "stages", multiple=True, help="Train only this stage (repeatable); default: all that are not done."
)
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), default=float("inf"), help="Stop in time.")
@click.option(
    "--workers", type=click.IntRange(0, 256), help="Processes that prepare data; default: none, for a CUDA GPU up to 8."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="How many of them (DDP).")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--show", is_flag=True, help="Print the recipe as JSON and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print what was reached as JSON.")
def train(
    recipe: str,
    data: Path,
    out: Path,
    settings: tuple[str, ...],
    bands: str | None,
    units: str | None,
    simulate: bool,
    stages: tuple[str, ...],
    max_minutes: float,
    workers: int | None,
    device: str,
    devices: int,
    precision: str,
    show: bool,
    as_json: bool,
) -> None:
    """Train RECIPE on --data into --out. Stops cleanly after --max-minutes or Ctrl-C; the same command goes on from
    there.

    RECIPE is base or rgbn (what ships), own (your pairs or clear images: bands, cloudy dates and Sentinel-1 as they
    have them, unless --set model.frames=1 or model.sar=0), or a method of the papers on a data set, such as msda-rice2,
    de-msda-rice2, diffusion-cuhk-cr1, diffcr-sen2-mtc-new; -n3 takes three dates, -sar Sentinel-1 (pairs without are
    left out). OUT gets a checkpoint per stage, log.jsonl, sample pictures and, after each finished stage,
    RECIPE.safetensors.
    """
    from unclouded.training.export import notes
    from unclouded.training.loop import train as run_training
    from unclouded.training.loop import unfinished
    from unclouded.training.own import fit
    from unclouded.training.recipes import keys
    from unclouded.training.recipes import recipe as find
    from unclouded.training.values import Run

    chosen = fit(
        find(recipe, settings),
        data,
        bands=[name.strip() for name in bands.split(",")] if bands else None,
        units=units,  # type: ignore[arg-type]
        simulate=simulate,
        by_hand=keys(settings),
        say=_note,
    )
    if show:
        click.echo(chosen.model_dump_json(indent=2))
        return
    for note in notes(chosen):
        _note(f"{note}.")
    # DDP's hint at a copy of the gradients of 1×1 convolutions, whose channels-last layout has two names
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    run = Run(data, out, stages or None, max_minutes, workers, device, devices, precision)  # type: ignore[arg-type]
    last = _follow(run_training(chosen, run))
    if is_first_process():
        click.echo(_reached(last, unfinished(chosen, run), out / f"{chosen.name}.safetensors"), err=True)
    if as_json and is_first_process():
        click.echo(json.dumps(None if last is None else asdict(last)))


def _note(sentence: str) -> None:
    if is_first_process():
        click.echo(f"Note: {sentence}", err=True)


def _reached(last: "Progress | None", left: "Sequence[str]", model: Path) -> str:
    """What became of a run: `last` is its last step, `left` are the stages that it was asked for and did not finish."""
    if not left:
        return f"Finished. The model is {model}."
    where = "before the first step" if last is None else f"after step {last.step} of {last.steps} of {last.stage}"
    return f"Time is up {where}; not finished: {', '.join(left)}. The same command goes on from there."


def _follow(steps: "Iterator[Progress]") -> "Progress | None":
    """Show the steps as they come: a bar on a terminal, a line at every validation elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    last = None
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, int] = {}
        for last in steps:
            if last.stage not in tasks:
                tasks[last.stage] = bar.add_task(last.stage, total=last.steps)
            losses = " ".join(f"{term} {loss:.4f}" for term, loss in last.losses.items())
            bar.update(tasks[last.stage], completed=last.step, description=f"{last.stage} {losses}")  # type: ignore[arg-type]
            if last.validation:
                scores = ", ".join(f"{name} {value:.4g}" for name, value in last.validation.items())
                console.print(
                    f"{last.stage} {last.step}/{last.steps} ({last.minutes:.1f} min): {losses}; {scores}",
                    soft_wrap=True,
                )
    return last

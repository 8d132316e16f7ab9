"""`unclouded data prepare`: a benchmark of cloudy and clear pairs from anyone's scenes."""

import json
from pathlib import Path
from typing import Any

import click

from unclouded.errors import UsageError


def _range(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        low, high = (float(part) for part in value.split(","))
    except ValueError as error:
        raise UsageError(f"The stretch {value!r} is not understood. Give two numbers, as in 0,2000.") from error
    return low, high


@click.command(name="prepare")
@click.argument("job", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--name", default="benchmark", show_default=True, help="Folder of the pairs in OUT.")
@click.option("--tile", type=click.IntRange(min=1), default=512, show_default=True, help="Side of a pair in pixels.")
@click.option(
    "--coverage",
    default="mask",
    show_default=True,
    help="Where cloud coverage comes from: mask (given in the job), cloud-net (found in the cloudy scene), or "
    "brightening (estimated: the white veil that turns the clear scene into the cloudy one).",
)
@click.option("--cloud-net", type=click.Path(path_type=Path), help="Weights of `data cloud-net` (default: ours).")
@click.option("--mask-values", help="What marks clouds: a preset (scl, qa_pixel, …) or numbers such as 1,3,8-10.")
@click.option("--least-coverage", type=float, default=0.02, show_default=True, help="Below it a pair is clear: out.")
@click.option("--most-coverage", type=float, default=0.98, show_default=True, help="Above it it is obscured: out.")
@click.option("--test-share", type=float, default=0.2, show_default=True, help="Share of pairs to test, whole places.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses the places to test.")
@click.option("--format", "format", default="png", show_default=True, help="png (8 bit, CUHK-CR) or tif (as it is).")
@click.option("--stretch", callback=_range, help="LOW,HIGH: the scenes' values that become 0 and 255.")
@click.option("--pixel-size", type=float, help="In units of the clear scene's coordinate system (default: its own).")
@click.option("--max-shift", type=float, default=64.0, show_default=True, help="Largest shift looked for, in pixels.")
@click.option(
    "--least-peak", type=float, default=10.0, show_default=True, help="Correlation peak that is a match, in σ."
)
@click.option("--skip-bad", is_flag=True, help="Leave scenes out that cannot be used, instead of failing at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print the datasheet as JSON on stdout.")
def data_prepare(job: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Make a benchmark in OUT from the cloudy and clear scenes that JOB lists.

    JOB is a CSV with the columns place,cloudy,clear and perhaps name,cloudy_pan,clear_pan,mask, or a YAML file with a
    list `places` of such entries and perhaps `bands`, the names of the scenes' bands. Paths are relative to it.

    Scenes are pan-sharpened where a panchromatic band is given, aligned (phase correlation; a bad match is refused),
    brought to the clear scene's grid and cut into pairs. Whole places go to train or test. OUT gets the layout of
    CUHK-CR, pairs.csv (for --data), left_out.csv and a datasheet with histograms of cloud coverage. The same command
    again keeps finished places, and makes those anew whose files or options changed.
    """
    from unclouded.datasets.prepare import PrepareOptions, prepare, read_datasheet

    if options["cloud_net"] is None:
        del options["cloud_net"]
    for done in prepare(job, out, PrepareOptions(**options)):
        click.echo(_line(done), err=True)
    facts = read_datasheet(out)
    counts = ", ".join(f"{n} {part}" for part, n in facts["pairs"].items())
    click.echo(f"{counts} pairs in {out}; see {out / 'DATASHEET.md'}", err=True)
    if as_json:
        click.echo(json.dumps({"out": str(out)} | facts))


def _line(done: Any) -> str:
    if done.refused:
        return f"{done.name}: refused. {done.refused}"
    match, n = done.record["match"], len(done.record["kept"])
    out = len(done.record["left_out"])
    return (
        f"{done.name}: {n} pairs, {out} tiles left out; shift {match['rows']:+.2f} down, {match['cols']:+.2f} right, "
        f"peak {match['peak']:.1f} σ, {match['residual']:.2f} left over{'' if done.made else ' (kept)'}"
    )

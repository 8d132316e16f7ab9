"""`unclouded remove`: a cloudy scene in, the clear scene out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unclouded.cli.bars import bar
from unclouded.errors import UncloudedError, UsageError

if TYPE_CHECKING:
    from unclouded.scene_budget import ScenePlan

FILE = click.Path(path_type=Path)


def _numbers(text: str | None, option: str, convert: type[int] | type[float], example: str) -> list[Any] | None:
    """`1,2,3` as numbers. Raises UsageError for anything else."""
    if text is None:
        return None
    try:
        return [convert(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a list of numbers. Give it as in {option} {example}.") from error


def _pair(text: str | None, option: str, example: str) -> tuple[float, float] | None:
    numbers = _numbers(text, option, float, example)
    if numbers is None:
        return None
    if len(numbers) != 2:
        raise UsageError(f"{option} {text!r} has {len(numbers)} numbers, not 2. Give it as in {option} {example}.")
    return numbers[0], numbers[1]


@click.command()
@click.argument("input", metavar="INPUT")
@click.argument("output", metavar="OUTPUT", type=FILE)
@click.option(
    "--model",
    default="auto",
    show_default=True,
    help="A shipped model's name, a model file, or hf://OWNER/NAME; auto: the one for the bands that the scene names.",
)
@click.option("--quality", type=click.Choice(["fast", "balanced", "paper"]), default="balanced", show_default=True,
              help="fast: the cheapest; balanced: the model's default; paper: DDIM with 50 steps.")  # fmt: skip
@click.option("--steps", type=int, help="Sampling steps, instead of the quality's.")
@click.option("--sampler", help="ddim, ddpm, dpm or unipc, instead of the quality's.")
@click.option("--start", type=int, metavar="T0", help="Warm start: begin at this step, from the noised prior.")
@click.option("--weight-floor", type=float, help="Least weight of the reference prior, 0 to 1.")
@click.option("--weight-tolerance", type=float, metavar="RMS",
              help="Halve the prior's weight where the two estimates lie so far apart, of [0, 1].")  # fmt: skip
@click.option(
    "--settle", type=float, metavar="RMS", help="Finish a tile early where a step moves it by no more than this."
)
@click.option("--self-ensemble", type=int, metavar="1|2|4|8",
              help="Average the prior over so many turned and flipped copies of a tile.")  # fmt: skip
@click.option(
    "--margin", type=int, metavar="PIXELS", help="Show the networks so many pixels of reflections around a tile."
)
@click.option("--scales", type=int, metavar="N", help="Restore at so many resolutions, each half of the one before.")
@click.option("--samples", type=int, help="Draw this many and write their mean.")
@click.option("--seed", type=int, help="Seed of the noise.")
@click.option("--date", "dates", multiple=True, metavar="FILE",
              help="Another cloudy date of the place, any grid (repeatable); for models of several.")  # fmt: skip
@click.option("--sar", metavar="FILE", help="Sentinel-1's VV and VH in dB, any grid; for models with radar.")
@click.option(
    "--mask",
    default="none",
    show_default=True,
    metavar="FILE|auto|none",
    help="Which pixels to replace: a mask's, those that look cloudy (s2cloudless for Sentinel-2 L1C), or all.",
)
@click.option("--mask-values", help="Classes that are cloud: 1,3,8-10 or scl, qa_pixel, s2cloudless, omnicloudmask.")
@click.option("--mask-dilate", default="0", show_default=True, help="Widen the mask, in pixels (3) or metres (30m).")
@click.option("--mask-feather", default="0", show_default=True, help="Fade out beyond it, in pixels or metres.")
@click.option("--bands", help="Scene bands for the model's bands in order, as in 4,3,2.")
@click.option("--range", "value_range", metavar="LOW,HIGH", help="Scene numbers that are black and white to the model.")
@click.option("--reflectance", metavar="SCALE,OFFSET", help="Number × SCALE + OFFSET is reflectance.")
@click.option("--stretch", metavar="pLOW-HIGH", help="Black and white are these percentiles of the whole scene: p2-98.")
@click.option("--tile", type=int, help="Tile size in pixels (default: about the model's, to divide the scene evenly).")
@click.option("--overlap", default=64, show_default=True, help="Overlap of tiles in pixels.")
@click.option(
    "--batch-size",
    type=int,
    help="Tiles restored together; default: 4 of 256 x 256, on a CUDA GPU 16, fewer of larger ones.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps, …")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32 or bf16.")
@click.option("--compile", is_flag=True, help="Compile the networks first: for large scenes, where a minute pays.")
@click.option("--max-memory", metavar="SIZE", help="Stay below this, as in 2GB: chooses batch and panels.")
@click.option("--preview", type=FILE, help="Write a before | after picture here.")
@click.option(
    "--mask-out", type=FILE, help="Write what was synthesised: 0 input, 1 blended, 2 synthesised, 255 nodata."
)
@click.option("--report", type=FILE, help="Write a self-contained HTML report here.")
@click.option("--weights-out", type=FILE, help="Write the weight of the reference prior, the mean over the steps.")
@click.option("--weights-step", type=int, metavar="K", help="Write the weight of this step, from 1, not the mean.")
@click.option(
    "--uncertainty-out",
    type=FILE,
    help="Write the standard deviation over the samples around each pixel, in scene units.",
)
@click.option("--cog", is_flag=True, help="Write Cloud Optimized GeoTIFFs, with overviews.")
@click.option("--stac", is_flag=True, help="Write a STAC Item beside OUTPUT (OUTPUT's name with .json).")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same command.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and about what it costs; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")
def remove(
    input: str,
    output: Path,
    model: str,
    device: str,
    precision: str,
    compile: bool,
    as_json: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Take the clouds out of INPUT and write the clear scene to OUTPUT.

    GeoTIFF (and what GDAL reads, from https:// or s3:// too), PNG, JPEG and WebP; OUTPUT has the same grid, bands and
    numbers. OUTPUT appears when it is whole. After Ctrl-C or a full disk, --resume goes on. Of several scenes (INPUT is
    a folder, a pattern, or a .txt file with one a line) each is written into the folder OUTPUT, and what is asked for
    beside it (--mask-out and so on) into the folders that those options name; --mask may be a folder with a mask of
    each scene's name.
    """
    from unclouded.sampling import OPTIONS

    changed = {name: given.pop(name) for name in OPTIONS}
    options = {
        **given,
        "sampling": {name: value for name, value in changed.items() if value is not None},
        "bands": _numbers(given["bands"], "--bands", int, "3,2,1"),
        "value_range": _pair(given["value_range"], "--range", "0,10000"),
        "reflectance": _pair(given["reflectance"], "--reflectance", "0.0001,-0.1"),
    }
    from unclouded.many_scenes import find_scenes

    settings: dict[str, Any] = {"model": model, "device": device, "precision": precision, "compile": compile}
    scenes = find_scenes(input)
    if scenes is not None:
        _many(scenes, output, settings, options, dry_run, as_json)
    elif dry_run:
        from unclouded.whole_scene import plan_scene

        plan = plan_scene(input, output, **settings, **options)
        click.echo(plan.model_dump_json(indent=2) if as_json else _plan_text(plan))
    else:
        _one(input, output, settings, options, as_json)


def _one(input: str, output: Path, settings: dict[str, Any], options: dict[str, Any], as_json: bool) -> None:
    from unclouded.scenes.failures import NoRoomError
    from unclouded.scenes.partial import partial_folder
    from unclouded.whole_scene import restore_scene

    try:
        with bar("tiles", quiet=as_json) as progress:
            report = restore_scene(input, output, progress=progress, **settings, **options)
    except (KeyboardInterrupt, NoRoomError):
        if partial_folder(output).is_dir():
            click.echo("What is finished is kept; the same command with --resume goes on.", err=True)
        raise
    if as_json:
        click.echo(report.model_dump_json(indent=2))
        return
    click.echo(f"{report.output}: {_summary(report.pixels)} in {report.seconds:.1f} s", err=True)
    for note in report.notes:
        click.echo(f"Note: {note}", err=True)


ONE_SCENE_ONLY = {"dates": "--date", "sar": "--sar"}


def _many(
    scenes: list[str],
    folder: Path,
    settings: dict[str, Any],
    options: dict[str, Any],
    dry_run: bool,
    as_json: bool,
) -> None:
    """A folder of scenes; a model that is named is loaded once. Exit code 1 if a scene failed."""
    asked = [option for name, option in ONE_SCENE_ONLY.items() if options[name]]
    asked += ["--dry-run"] if dry_run else []
    if asked:
        raise UsageError(f"{asked[0]} is for one scene, and {len(scenes)} are given. Leave it out, or give one scene.")
    from unclouded.many_scenes import MAPS, SceneFiles, restore_many
    from unclouded.restore import load
    from unclouded.whole_scene import restore_scene

    name = settings.pop("model")
    settings["model"] = name if name == "auto" else load(name, **settings)
    resume = options.pop("resume")
    maps = {name: options[name] for name in MAPS if options[name] is not None}
    masks = Path(options["mask"]) if Path(options["mask"]).is_dir() else None
    outcomes = []

    def restore(files: SceneFiles, go_on: bool) -> None:
        its = options | files.beside
        with bar("tiles", quiet=as_json) as progress:
            restore_scene(files.scene, files.output, progress=progress, resume=go_on, **settings, **its)

    for outcome in restore_many(scenes, folder, restore, resume, maps, masks):
        outcomes.append(outcome)
        click.echo(f"{outcome.input}: {outcome.message or outcome.status}", err=True)
    for note in getattr(settings["model"], "notes", ()):
        click.echo(f"Note: {note}", err=True)
    if as_json:
        click.echo(json.dumps([outcome.model_dump() for outcome in outcomes], indent=2))
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    if failed:
        raise UncloudedError(f"{failed} of {len(scenes)} scenes failed. Mend them, and run again with --resume.")


def _plan_text(plan: "ScenePlan") -> str:
    """A fact a line."""
    scene, (height, width) = plan.scene, plan.tile
    size = f"{scene['width']} x {scene['height']} pixels, {scene['bands']} of {scene['dtype']}"
    seen = zip(plan.bands.items(), plan.dn_range.low, plan.dn_range.high, strict=True)
    lines = [
        ("input", f"{plan.input}: {size}, {scene['crs'] or 'no coordinate system'}"),
        ("model", plan.model),
        *(("band", f"{name} is {number}, from {low:g} to {high:g}") for (name, number), low, high in seen),
        *(("band", f"{number} passes through unchanged") for number in plan.passed_through),
        *(("date", date) for date in plan.dates),
        *([("radar", plan.sar)] if plan.sar else []),
        ("mask", plan.mask),
        ("tiles", f"{plan.tiles} of {width} x {height}, overlap {plan.overlap}, {plan.batch_size} together"),
        ("cost", f"about {plan.seconds:g} s for all tiles, {plan.memory_mb} MB of memory"),
        *((name, path) for name, path in plan.files.items()),
    ]
    return "\n".join(f"{name:12} {value}" for name, value in lines)


def _summary(pixels: dict[str, int]) -> str:
    total = max(1, sum(pixels.values()))
    made = pixels["synthesised"] + pixels["blended"]
    return f"{100 * made / total:.1f} % of {total} pixels synthesised"

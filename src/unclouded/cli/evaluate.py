"""`unclouded evaluate`: score a model, its prior alone or the cloudy input on pairs; without clear images, restore
only."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from unclouded.cli.bars import bar
from unclouded.errors import UsageError

if TYPE_CHECKING:
    from unclouded.datasets.pairs import Pair
    from unclouded.evaluation.evaluate import Score
    from unclouded.evaluation.methods import Method

T = TypeVar("T")


def _bands(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        return [int(band) for band in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of band numbers such as 4,3,2.") from None


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(","))


@click.command()
@click.option(
    "--model", default="base", show_default=True, help="A shipped model's name, a model file, or hf://OWNER/NAME."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with cloud/ and label/, cloudy/ and clear/, or a CSV.",
)
@click.option("--split", help="A part of the data: its own (test), a written list (rice2-val), or a file of stems.")
@click.option("--dataset", help="The known data set whose layout --data has (`unclouded data list`).")
@click.option("--drop-leaks", is_flag=True, help="Leave out what the catalog knows to be a copy or a bad label.")
@click.option("--protocol", default="paper", show_default=True, help="paper (uint8, luma SSIM) or standard.")
@click.option("--metrics", "names", callback=_names, metavar="NAMES",
              help="Only these: psnr,ssim,mae,gradient_ratio,bias,lpips,fid; of standard also sam,ergas.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder for per_image.csv and summary.json.")
@click.option("--save-images", is_flag=True, help="Also write the restored images to OUT/restored.")
@click.option("--prior-only", is_flag=True, help="Score the model's reference prior, without diffusion.")
@click.option("--no-prior", is_flag=True, help="Sample the model without its prior: pure conditional diffusion.")
@click.option("--input", "input_only", is_flag=True, help="Score the cloudy input itself.")
@click.option("--against", type=click.Path(path_type=Path), help="--out of another run: test the difference.")
@click.option("--bands", callback=_bands, help="Bands of the files, counted from 1, in the model's order: 4,3,2.")
@click.option("--cloud-threshold", type=click.FloatRange(0, 1), default=0.1, show_default=True,
              help="A pixel is cloudy where a band differs from the clear image by more.")  # fmt: skip
@click.option("--lpips", type=click.Path(path_type=Path), help="AlexNet weights (torchvision's file): adds LPIPS.")
@click.option("--fid", type=click.Path(path_type=Path), help="Inception weights (torch-fidelity's file): adds FID.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images, evenly spaced over the list.")
@click.option("--quality", type=click.Choice(["fast", "balanced", "paper"]), default="balanced", show_default=True,
              help="fast: the cheapest; balanced: the model's default; paper: DDIM with 50 steps.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Sampling steps, instead of the quality's.")
@click.option("--sampler", type=click.Choice(["ddim", "ddpm", "dpm", "unipc"]), help="Instead of the quality's.")
@click.option("--start", type=click.IntRange(min=1), help="Warm start: begin at this step, from the noised prior.")
@click.option("--weight-floor", type=click.FloatRange(0, 1), help="Least weight of the prior (default: the model's).")
@click.option("--weight-tolerance", type=float, metavar="RMS",
              help="Halve the prior's weight where the two estimates lie so far apart, of [0, 1].")  # fmt: skip
@click.option("--settle", type=float, metavar="RMS", help="Finish an image where a step moves it by no more than this.")
@click.option("--self-ensemble", type=int, metavar="1|2|4|8",
              help="Average the prior over so many turned and flipped copies (default: the model's).")  # fmt: skip
@click.option(
    "--margin", type=int, metavar="PIXELS", help="Show the networks so many pixels of reflections around an image."
)
@click.option("--scales", type=int, metavar="N", help="Restore at so many resolutions, each half of the one before.")
@click.option("--samples", type=click.IntRange(min=1), help="Draws whose mean is scored (default: the model's).")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the noise (default: the model's).")
@click.option("--calibrate", type=click.Path(path_type=Path), metavar="OUT.safetensors",
              help="Fit the spread of --samples to the errors found; write the model with its factors.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
def evaluate(model: str, data: Path, split: str | None, protocol: str, out: Path | None, **options: Any) -> None:
    """Score a model on pairs of cloudy and clear images.

    Means carry 95 % bootstrap intervals over the images; cloudy and clear pixels are also scored apart. If the folder
    has no clear images, they are restored to OUT/restored and nothing is scored.
    """
    from unclouded.datasets.pairs import read_pairs, read_targets
    from unclouded.evaluation import metrics
    from unclouded.evaluation.evaluate import read_csv, spread_out
    from unclouded.scenes.failures import make_folder, writing

    metrics.protocol(protocol)
    _check_metrics(protocol, options)
    if options["prior_only"] + options["no_prior"] + options["input_only"] > 1:
        raise UsageError("--prior-only, --no-prior and --input exclude each other. Give one of them.")
    targets = None if options["dataset"] else read_targets(data)
    _check_calibrate(model, options)
    other = None if options["against"] is None else read_csv(options["against"])  # before --out may replace it
    pairs = [] if targets else read_pairs(data, split, options["dataset"], options["drop_leaks"])
    pairs = spread_out(pairs, options["limit"])
    if out is not None:
        make_folder(out)
    method = _method(model, options)
    facts = {"model": None if options["input_only"] and not _asked_for_model() else model, "data": str(data)}
    if targets and options["calibrate"] is not None:
        raise UsageError("There are no clear images to calibrate with. Give pairs, or leave --calibrate out.")
    if targets:
        _restore_only(method, spread_out(targets, options["limit"]), out, options)
        summary = facts | {"n": 0, "protocol": protocol, "metrics": {}}
    else:
        scores, whole = _score(method, pairs, protocol, out, options)
        summary = facts | _summary(scores, protocol, method, split, options, other) | whole
        _show(summary)
    if out is not None:
        path = out / "summary.json"
        with writing(path):
            path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if options["as_json"]:
        click.echo(json.dumps(summary))
    if options["calibrate"] is not None:
        _store_calibration(model, options["calibrate"], summary)


def _asked_for_model() -> bool:
    source = click.get_current_context().get_parameter_source("model")
    return source is not None and source.name != "DEFAULT"


def _check_metrics(protocol: str, options: dict[str, Any]) -> None:
    """Refuse metrics that there are not, and those whose network was not given."""
    from unclouded.evaluation import inception, lpips, metrics

    wanted = options["names"] or ()
    metrics.check_names(wanted, protocol, others=("lpips", "fid"))
    for name, where in (("lpips", lpips.WHERE), ("fid", inception.WHERE)):
        if name in wanted and options[name] is None:
            raise UsageError(where)


def _check_calibrate(model: str, options: dict[str, Any]) -> None:
    """Refuse, before any work, what cannot end in a calibrated model file."""
    target = options["calibrate"]
    if target is None:
        return
    from unclouded.models import conversion, store

    if options["prior_only"] or options["no_prior"] or options["input_only"]:
        raise UsageError("--calibrate is for the model itself. Leave --prior-only, --no-prior and --input out.")
    if (options["samples"] or store.read_card(store.resolve(model)).at(options["quality"]).samples) < 2:
        raise UsageError("One sample has no spread to calibrate. Give --samples 2 or more.")
    if target.suffix != ".safetensors":
        raise UsageError(f"A model file ends in .safetensors, not as {target.name}. Choose such an output.")
    conversion.check_writable([target], [store.resolve(model)], overwrite=False)


def _store_calibration(model: str, target: Path, summary: dict[str, Any]) -> None:
    from unclouded.evaluation.calibrated import store_calibration
    from unclouded.models import store

    card = store_calibration(store.resolve(model), target, summary, " ".join(["unclouded", *sys.argv[1:]]))
    factors = zip(card.bands.names, card.spread_scale, strict=True)
    click.echo(f"{target}: spread × {', '.join(f'{name} {factor:.3g}' for name, factor in factors)}", err=True)


def _method(model: str, options: dict[str, Any]) -> "Method":
    from unclouded.evaluation.methods import Input, Model, Prior

    if options["input_only"] and not _asked_for_model():
        return Input()
    from unclouded.restore import load
    from unclouded.sampling import OPTIONS, changed

    restorer = load(model, device=options["device"], precision=options["precision"])
    for note in restorer.notes:
        click.echo(f"Note: {note}", err=True)
    if options["calibrate"] is not None:
        from unclouded.evaluation.calibrated import uncalibrated

        restorer = uncalibrated(restorer)
    if options["input_only"]:
        return Input(restorer.bands)
    changes = {name: options[name] for name in OPTIONS if options[name] is not None}
    sampling = restorer.card.at(options["quality"])
    if options["prior_only"]:
        return Prior(restorer, changed(sampling, changes))
    return Model(restorer, changed(sampling, changes), use_prior=not options["no_prior"])


def _score(
    method: "Method", pairs: "list[Pair]", protocol: str, out: Path | None, options: dict[str, Any]
) -> "tuple[list[Score], dict[str, Any]]":
    """The images' scores, and what is measured over all of them at once: FID, calibration."""
    from dataclasses import replace

    from unclouded.datasets.images import image_facts
    from unclouded.evaluation import metrics
    from unclouded.evaluation.evaluate import evaluate as run
    from unclouded.evaluation.evaluate import write_csv
    from unclouded.evaluation.output import save_image
    from unclouded.evaluation.whole import Whole

    wanted = {name: options[name] for name in ("bands", "batch_size", "cloud_threshold")}
    whole = Whole.open(protocol, options["lpips"], options["fid"])
    folder = _image_folder(out, options["save_images"])
    results = run(method, pairs, metrics.protocol(protocol), more=whole.per_image, **wanted)
    scores = []
    for pair, score in zip(pairs, _progress(results, len(pairs)), strict=True):
        assert score.images is not None
        whole.feed(score.images)
        if folder is not None:
            save_image(folder, score.stem, score.images.restored, image_facts(pair.cloudy).dtype, method.bands)
        scores.append(replace(score, images=None))
    if out is not None:
        write_csv(out / "per_image.csv", scores)
    return scores, whole.result()


def _restore_only(
    method: "Method", targets: "list[tuple[str, Path]]", out: Path | None, options: dict[str, Any]
) -> None:
    from unclouded.datasets.images import read_image
    from unclouded.evaluation.methods import choose_bands, to_unit
    from unclouded.evaluation.output import save_image

    folder = _image_folder(out, wanted=out is not None)
    if folder is None:
        raise UsageError(
            "There are no clear images to score against. Give --out, so that the images can be restored there."
        )
    for stem, path in _progress(targets, len(targets)):
        image = choose_bands(read_image(path), options["bands"], method.bands, str(path))
        restored = method.restore(to_unit(image, method.bands)[None]).clear[0]
        save_image(folder, stem, restored, image.dtype, method.bands)
    click.echo(
        f"There are no clear images, so nothing was scored: {len(targets)} images restored to {folder}.", err=True
    )


def _summary(
    scores: "list[Score]",
    protocol: str,
    method: "Method",
    split: str | None,
    options: dict[str, Any],
    other: dict[str, dict[str, float]] | None,
) -> dict[str, Any]:
    from unclouded.datasets.splits import hash_stems
    from unclouded.evaluation.evaluate import as_json, compare_with, summarise
    from unclouded.evaluation.methods import Model
    from unclouded.evaluation.metrics import is_one_of

    def wanted(values: dict[str, T]) -> dict[str, T]:
        names = options["names"]
        return values if names is None else {name: value for name, value in values.items() if is_one_of(name, names)}

    summary: dict[str, Any] = {"n": len(scores), "protocol": protocol}
    for part, prefix in (("metrics", ""), ("cloudy_pixels", "cloudy_"), ("clear_pixels", "clear_")):
        summary[part] = {name: as_json(interval) for name, interval in wanted(summarise(scores, prefix)).items()}
    summary |= {
        "what": method.what,
        "split": split,
        "split_hash": hash_stems(score.stem for score in scores),
        "cloud_threshold": options["cloud_threshold"],
        "sampling": method.sampling.model_dump() if isinstance(method, Model) else None,
    }
    if other is not None:
        tests = compare_with(scores, other)
        summary["against"] = {"file": str(options["against"])} | {n: t._asdict() for n, t in wanted(tests).items()}
    return summary


def _show(summary: dict[str, Any]) -> None:
    """A table on stderr."""
    name = summary["model"] or "no model"
    click.echo(f"{name} ({summary['what']}) on {summary['n']} images of {summary['data']}, "
               f"protocol {summary['protocol']}, split {summary['split_hash'][:12]}", err=True)  # fmt: skip
    for part in ("metrics", "cloudy_pixels", "clear_pixels"):
        for metric, value in summary[part].items():
            if value["mean"] is not None:
                interval = f"{value['mean']:10.4f}  [{value['low']:.4f}, {value['high']:.4f}]"
                click.echo(f"  {part.replace('metrics', 'all_pixels'):<14} {metric:<15} {interval}", err=True)
    for metric, test in summary.get("against", {}).items():
        if metric != "file":
            click.echo(f"  minus other    {metric:<15} {test['difference']:+10.4f}  [{test['low']:+.4f}, "
                       f"{test['high']:+.4f}]  p = {test['p_value']:.4g}", err=True)  # fmt: skip


def _image_folder(out: Path | None, wanted: bool) -> Path | None:
    if not wanted:
        return None
    if out is None:
        raise UsageError("Restored images need a folder. Give --out.")
    from unclouded.scenes.failures import make_folder

    return make_folder(out / "restored")


def _progress(items: Iterable[T], total: int) -> Iterator[T]:
    with bar("evaluate") as show:
        for done, item in enumerate(items, start=1):
            yield item
            if show is not None:
                show(done, total)

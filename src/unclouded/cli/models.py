"""`unclouded models`: list, describe, import, export and publish models."""

import json
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)
SHOWN = ("psnr", "ssim", "lpips")  # of what was measured; --json gives all
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


@click.group()
def models() -> None:
    """List, describe, import, export and publish models."""


@models.command("list")
@JSON
def list_models(as_json: bool) -> None:
    """Name the models that come with this installation."""
    from unclouded.models import store

    cards = {name: (path, store.read_card(path)) for name, path in store.shipped().items()}
    if as_json:
        click.echo(json.dumps([_row(name, path, card) for name, (path, card) in cards.items()], indent=2))
        return
    if not cards:
        click.echo("No models are shipped with this installation. Train one, or import the authors' weights.", err=True)
    for name, (_, card) in cards.items():
        others = [other for other, target in store.OTHER_NAMES.items() if target == name]
        also = f" (also: {', '.join(others)})" if others else ""
        click.echo(f"{name:<16} {card.method:<8} {', '.join(card.bands.names):<24} {card.summary}{also}")


def _row(name: str, path: Path, card: Any) -> dict[str, Any]:
    bands = list(card.bands.names)
    return {"name": name, "path": str(path), "method": card.method, "bands": bands, "summary": card.summary}


@models.command()
@click.argument("model", metavar="NAME|FILE")
@JSON
def info(model: str, as_json: bool) -> None:
    """Show a model's card: what it is, what it was trained on, what was measured, where it fails."""
    from unclouded.models import conversion, store

    found = conversion.description(store.resolve(model))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    """The description as text for people."""
    millions = ", ".join(f"{part} {count / 1e6:.2f} M" for part, count in found["parameters"].items())
    bands = found["bands"]
    span = f"{bands['units']}, {min(bands['low']):g} to {max(bands['high']):g}"
    sampling = ", ".join(f"{key} {value}" for key, value in found["sampling"].items() if value is not None)
    lines = [
        f"{found['name']}: {found['summary'] or 'no summary'}",
        f"  method       {found['method']}",
        f"  bands        {', '.join(bands['names'])} ({span})",
        *_conditions(found["architecture"]),
        f"  parameters   {millions}",
        f"  sampling     {sampling}",
        f"  licence      {found['licence']}",
        *(f"  cite         {citation}" for citation in found["citation"]),
        *(f"  limit        {limit}" for limit in found["limits"]),
    ]
    if found["spread_scale"]:
        factors = zip(bands["names"], found["spread_scale"], strict=True)
        lines.append(f"  spread ×     {', '.join(f'{name} {factor:.3g}' for name, factor in factors)}")
    if found["calibration"]:
        made = found["calibration"]
        lines.append(
            f"  calibrated   {made['samples']} samples on {made['images']} images of {made['split']}, split "
            f"{made['split_hash']}: ± covers {_shares(made['coverage_held_out'])}, unscaled "
            f"{_shares(made['coverage_raw'])}, nominally {100 * made['level']:.0f} %"
        )
    if found["training"]:
        training = found["training"]
        lines.append(f"  trained      {training['recipe']} on {', '.join(training['data']) or 'unnamed data'}")
        if training["note"]:
            lines.append(f"  note         {training['note']}")
        while training := training["init"]:
            lines.append(f"  started from {_run(training)}")
    for row in found["metrics"]:
        values = ", ".join(f"{metric} {row['values'][metric]:.4g}" for metric in SHOWN if metric in row["values"])
        where = f"{row['data']} {row['split']}, {row['n']} images, protocol {row['protocol']}"
        lines.append(f"  measured     {row['what']}: {values} ({where})")
    size = f"{found['bytes'] / 1e6:.1f} MB, sha256 {found['sha256']}"
    return [*lines, f"  file         {found['file']} ({size})"]


def _run(training: dict[str, Any]) -> str:
    """The recipe, the stages that were run, and where the code stood; or what was done without training."""
    if training["note"]:
        return str(training["note"])
    stages = ", ".join(f"{stage} {steps} steps" for stage, steps in training["steps"].items())
    at = f", commit {training['commit'][:12]}" if training["commit"] else ""
    return f"{training['recipe']} ({stages}{at})"


def _conditions(architecture: dict[str, Any]) -> list[str]:
    """What the model takes beside one cloudy image, if anything."""
    dates = [f"{architecture['frames']} cloudy dates"] if architecture.get("frames", 1) > 1 else []
    radar = ["Sentinel-1 (VV, VH in dB)"] if architecture.get("sar") else []
    return [f"  takes        {', '.join([*dates, *radar])}"] if dates or radar else []


def _shares(values: list[float]) -> str:
    return "/".join(f"{100 * value:.0f}" for value in values) + " %"


@models.command("import")
@click.argument("checkpoint", metavar="CHECKPOINT", type=FILE)
@click.argument("output", metavar="OUT.safetensors", type=FILE)
@click.option("--prior", type=FILE, help="The file of the reference prior, for a DE checkpoint with weight allocation.")
@click.option("--kind", help="What the checkpoint (or the prior) is, if it should not be recognised by its tensors.")
@click.option("--name", help="Name in the card (default: the output's).")
@click.option("--band-names", help="Names of the bands in the model's order: red,green,blue,nir.")
@click.option("--band-order", type=click.Choice(["rgb", "bgr"]), help="Band order of a SpA-GAN file (released: bgr).")
@click.option("--licence", help="Licence of the weights, for the card.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@JSON
def import_model(
    checkpoint: Path, output: Path, prior: Path | None, name: str | None, band_names: str | None, **options: Any
) -> None:
    """Convert the authors' weights (.pt, .pth, .safetensors) into one model file.

    DE files with weight allocation need the file of their prior too. Code in a file is never run.
    """
    from unclouded.errors import UsageError
    from unclouded.models import conversion, store

    if output.suffix != ".safetensors":
        raise UsageError(f"A model file ends in .safetensors, not as {output.name}. Choose such an output.")
    conversion.check_writable([output], [checkpoint, *([prior] if prior else [])], options.pop("overwrite"))
    as_json = options.pop("as_json")
    names = band_names.split(",") if band_names else None
    made = conversion.from_authors(checkpoint, prior, name=name or output.stem, band_names=names, **options)
    store.save(output, made.model, made.card, made.dtype)
    counts = conversion.parameters(made.model)
    if as_json:
        summary = {"output": str(output), "name": made.card.name, "method": made.card.method, "kinds": made.kinds,
                   "bands": list(made.card.bands.names), "parameters": counts, "skipped": made.skipped}  # fmt: skip
        click.echo(json.dumps(summary, indent=2))
        return
    what = " with ".join(conversion.TITLES[kind] for kind in made.kinds)
    click.echo(f"{output}: {what}, {made.model.bands} bands, {counts['total'] / 1e6:.2f} M parameters.", err=True)
    if made.skipped:
        click.echo(f"Left out {len(made.skipped)} tensors that have no effect: {', '.join(made.skipped)}.", err=True)


@models.command()
@click.argument("model", metavar="NAME|FILE")
@click.argument("output", metavar="OUT", type=FILE)
@click.option("--part", help="Only this part: prior, cnp or wa (default: the whole model).")
@click.option("--dtype", type=click.Choice(["as-stored", "fp32", "fp16"]), default="as-stored", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@JSON
def export(model: str, output: Path, part: str | None, dtype: str, overwrite: bool, as_json: bool) -> None:
    """Write a model's weights to OUT (.safetensors, .pt or .pth) and its card beside them (.json)."""
    from unclouded.models import conversion, store

    source = store.resolve(model)
    conversion.check_writable(conversion.exported_files(output), [source], overwrite)
    written = [str(path) for path in conversion.export(source, output, part=part, dtype=dtype)]
    click.echo(json.dumps({"written": written}) if as_json else f"Wrote {' and '.join(written)}.", err=not as_json)


@models.command()
@click.argument("model", metavar="NAME|FILE")
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="If the repository is made now, only you see it.")
@JSON
def push(model: str, repository: str, private: bool, as_json: bool) -> None:
    """Upload a model and its card to the Hugging Face Hub; `--model hf://OWNER/NAME` uses it from there.

    Log in with `hf auth login` first, or set HF_TOKEN.
    """
    from unclouded.models import hub, store

    source = store.resolve(model)
    _, card = store.load(source)  # a whole model
    address = hub.push(source, card, repository, private)
    click.echo(json.dumps({"pushed": address}) if as_json else f"Pushed {card.name} to {address}.", err=not as_json)

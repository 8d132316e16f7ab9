"""`unclouded demo`: a generated scene, its clouds removed, a picture and scores against the known truth."""

import json
from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("demo"))
@click.option("--side", type=click.IntRange(min=64), default=1024, show_default=True, help="Pixels along each side.")
@click.option("--seed", type=click.IntRange(min=0), help="Another seed, another scene.")
@click.option("--model", help="A shipped model's name or a model file (default: the one for most of the bands).")
@click.option("--steps", type=click.IntRange(min=1), help="Sampling steps (default: the model's).")
@click.option("--json", "as_json", is_flag=True, help="Print files and scores as JSON on stdout.")
def demo(folder: Path, side: int, seed: int | None, model: str | None, steps: int | None, as_json: bool) -> None:
    """Generate a cloudy scene in DIR (demo), take its clouds out, score the result.

    The scene is a GeoTIFF with red, green, blue and near infrared at 3 m; the truth is known, as all is generated.
    """
    from unclouded.demo import SEED, run_demo

    options = [] if steps is None else ["--steps", str(steps)]
    click.echo(f"Generating a cloudy {side} x {side} scene in {folder} and taking its clouds out ...", err=True)
    result = run_demo(folder, side=side, seed=SEED if seed is None else seed, model=model, options=options)
    if as_json:
        click.echo(json.dumps(result.summary(), indent=1))
        return
    titles = {
        "cloudy": "cloudy scene",
        "truth": "clear truth",
        "clear": "clouds removed",
        "before_after": "before | after",
        "comparison": "cloudy | removed | truth",
    }
    for name, title in titles.items():
        click.echo(f"  {title:26} {result.files[name]}")
    for when, scores in result.scores.items():
        cloudy = f", {scores['psnr_cloudy']:.2f} dB under clouds" if "psnr_cloudy" in scores else ""
        click.echo(f"  {when:26} PSNR {scores['psnr']:.2f} dB{cloudy}, SSIM {scores['ssim']:.3f}")
    click.echo(f"  model {result.model}; {result.seconds['remove']:.0f} s for the removal", err=True)

"""Minutes of training to a given validation PSNR: the paper's coarse-to-fine against full-size images only.

    python benchmarks/coarse_to_fine.py --data ../shared/data --out runs/coarse_to_fine [--set KEY=VALUE]

`base` itself has a first stage at full size; benchmarks/README.md has settings that make it coarse.
Both ways start from one reference prior and see as many pixels. Coarse to fine is the recipe; full size only gives its
stage `coarse` the squares and batches of the stage `joint`. The target is the best PSNR that both reach, on the fused
model's validation (stages `weights` and `joint`). The same command again resumes.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from unclouded.training.loop import train
from unclouded.training.recipes import recipe as find
from unclouded.training.values import Recipe, Run

Point = tuple[float, float]  # minutes of training without the prior's, mean PSNR over the validation lists
FUSED = ("weights", "joint")


def full_size_only(recipe: Recipe) -> Recipe:
    """The stage `coarse` on squares of the joint stage's size, as many pixels in all."""
    coarse, joint = recipe.stages["coarse"], recipe.stages["joint"]
    pixels = coarse.steps * coarse.batch_size * coarse.size**2
    steps = max(1, round(pixels / (joint.batch_size * joint.size**2)))
    large = coarse.model_copy(update={"steps": steps, "batch_size": joint.batch_size, "size": joint.size, "shrink": 1})
    return recipe.model_copy(update={"stages": recipe.stages | {"coarse": large}})


def curve(log: Path) -> list[Point]:
    """The fused model's PSNR against minutes, from a run's log."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    spent = {e["stage"]: e["minutes"] for e in entries if e["stage"] != "prior"}  # the last line of each stage
    order = list(spent)
    points = []
    for entry in entries:
        scores = [value for name, value in entry["validation"].items() if name.endswith("/psnr")]
        if entry["stage"] in FUSED and scores:
            before = sum(spent[stage] for stage in order[: order.index(entry["stage"])])
            points.append((before + entry["minutes"], sum(scores) / len(scores)))
    return points


def minutes_to(points: Sequence[Point], target: float) -> float:
    return next(minutes for minutes, psnr in points if psnr >= target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="base", help="one with the stages coarse, weights and joint")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in `unclouded train`")
    parser.add_argument("--prior", type=Path, help="prior.ckpt of an earlier run of this recipe; else it is trained")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    options = parser.parse_args()
    recipe = find(options.recipe, options.set)
    ways = {"coarse to fine": recipe, "full size only": full_size_only(recipe)}
    prior, curves = options.prior, {}
    for name, way in ways.items():
        out = options.out / name.replace(" ", "-")
        out.mkdir(parents=True, exist_ok=True)
        if prior is not None and not (out / "prior.ckpt").exists():
            shutil.copy(prior, out / "prior.ckpt")
        for step in train(way, Run(options.data, out, precision=options.precision)):
            if step.validation:
                print(
                    f"{name}: {step.stage} {step.step}/{step.steps}, {step.images_per_second:.1f} images / s",
                    flush=True,
                )
        prior, curves[name] = out / "prior.ckpt", curve(out / "log.jsonl")
    target = min(max(psnr for _, psnr in points) for points in curves.values())
    found = {name: minutes_to(points, target) for name, points in curves.items()}
    print(f"to {target:.2f} dB: " + ", ".join(f"{name} {minutes:.1f} min" for name, minutes in found.items()))
    (options.out / "coarse_to_fine.json").write_text(
        json.dumps({"target": target, "minutes": found, "curves": curves}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()

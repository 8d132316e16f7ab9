"""Measure a trained model on the validation lists and ship it with its numbers in its card.

    python benchmarks/held_out.py --data ../shared/data --out runs/held_out
    python benchmarks/ship.py runs/base/base.safetensors --data ../shared/data --held-out runs/held_out --set steps=5

Calibrates the spread of its samples, runs `unclouded evaluate` for the cloudy input, pure diffusion, the prior alone
and the model, writes what they print into the card, the model to src/unclouded/weights/NAME.safetensors, and all of it
to docs/models/NAME.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from unclouded.models import store
from unclouded.models.card import Measurement, ModelCard
from unclouded.models.page import page
from unclouded.training.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = 4  # of which the spread is calibrated
METHODS = {"cloudy input": ["--input"], "diffusion alone": ["--no-prior"], "prior alone": ["--prior-only"], "model": []}


def lists(bands: int, data: Path, held_out: Path) -> dict[Path, list[str]]:
    """What a model of so many bands is measured on: folder -> which pairs and bands of it, as options. The spread
    is calibrated on the first."""
    if bands == 3:
        return {
            data / "rice2": ["--split", "rice2-val"],
            data / "rice1": ["--split", "rice1-val"],
            held_out / "half_metre": [],
            held_out / "unseen_place": [],
            held_out / "sentinel2": ["--bands", "1,2,3"],
        }
    return {held_out / name: [] for name in ("rgbn", "landscapes", "sentinel2", "unseen_rgbn")}


def calibrated(model: Path, folder: Path, chosen: list[str]) -> ModelCard:
    """The card of `model` with the factors of its spread on these pairs."""
    arguments = ["--data", str(folder), *chosen, "--samples", str(SAMPLES)]
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / model.name
        evaluate(model, [*arguments, "--calibrate", str(target)])
        card = store.read_card(target)
    assert card.calibration is not None
    command = " ".join(["unclouded evaluate --model", model.stem, *arguments, "--calibrate", model.name])
    return card.model_copy(update={"calibration": card.calibration.model_copy(update={"command": command})})


def evaluate(model: Path, arguments: list[str]) -> dict:
    """What `unclouded evaluate` says of the model."""
    command = [sys.executable, "-m", "unclouded", "evaluate", "--model", str(model), *arguments, "--json"]
    summary: dict = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return summary


def measure(model: Path, folders: dict[Path, list[str]], protocol: str, limit: int | None) -> list[Measurement]:
    found = []
    for folder, chosen in folders.items():
        for what, flags in METHODS.items():
            arguments = ["--data", str(folder), *chosen, "--protocol", protocol, *flags]
            arguments += ["--limit", str(limit)] if limit else []
            summary = evaluate(model, arguments)
            found.append(
                Measurement(
                    data=folder.name,
                    split=summary["split"] or "all",
                    split_hash=summary["split_hash"],
                    n=summary["n"],
                    protocol=protocol,
                    what=what,
                    values=flatten(summary),
                    command=" ".join(["unclouded evaluate --model", model.stem, *arguments]),
                )
            )
            print(folder.name, protocol, what, found[-1].values, flush=True)
    return found


def flatten(summary: dict) -> dict[str, float]:
    """Means and intervals by name; what was measured on cloudy or clear pixels alone under cloudy_ and clear_."""
    values: dict[str, float] = {}
    for prefix, part in (("", "metrics"), ("cloudy_", "cloudy_pixels"), ("clear_", "clear_pixels")):
        for name, interval in (summary.get(part) or {}).items():
            if interval["mean"] is not None:
                values[prefix + name] = round(interval["mean"], 4)
                if not prefix:
                    values |= {f"{name}_low": round(interval["low"], 4), f"{name}_high": round(interval["high"], 4)}
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True, help="what held_out.py wrote")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="sampling defaults for the card"
    )
    parser.add_argument("--protocols", nargs="+", default=["paper", "standard"])
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()

    model, card = store.load(options.model)
    changes = {key: yaml.safe_load(value) for key, value in (setting.split("=", 1) for setting in options.set)}
    sampling = type(card.sampling).model_validate(card.sampling.model_dump() | changes)
    recipe = RECIPES[card.name]()
    said = {"summary": recipe.summary, "limits": recipe.limits}
    card = card.model_copy(update={"sampling": sampling, "metrics": (), **said})
    target = store.WEIGHTS / f"{card.name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    store.save(target, model, card)
    folders = lists(len(card.bands), options.data, options.held_out)
    card = calibrated(target, *next(iter(folders.items())))
    metrics = [m for protocol in options.protocols for m in measure(target, folders, protocol, options.limit)]
    card = card.model_copy(update={"metrics": tuple(metrics)})
    store.save(target, model, card)
    document = ROOT / "docs" / "models" / f"{card.name}.md"
    document.parent.mkdir(exist_ok=True)
    document.write_text(page(card) + "\n")


if __name__ == "__main__":
    main()

"""From a trained model to a model file: the card fills itself in."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path

from unclouded.models.base import RestorationModel
from unclouded.models.card import ModelCard, TrainingRecord
from unclouded.models.store import save
from unclouded.training.adversarial import METHODS
from unclouded.training.values import Recipe, Run, Source

CITATIONS = {
    "de": "Sui et al., Diffusion Enhancement for Cloud Removal in Ultra-Resolution Remote Sensing Imagery, "
    "IEEE TGRS 2024, arXiv 2401.15105",
    "diffcr": "Zou et al., DiffCR: A Fast Conditional Diffusion Framework for Cloud Removal From Optical Satellite "
    "Images, IEEE TGRS 2024, arXiv 2308.04417",
}


def write_model(
    path: Path, model: RestorationModel, recipe: Recipe, run: Run, ancestor: TrainingRecord | None = None
) -> ModelCard:
    """Write `model` with a card that says what it was trained from, and how long; `ancestor` is the record of the model
    that it started from."""
    card = ModelCard(
        name=recipe.name,
        summary=recipe.summary,
        method=recipe.method,
        architecture=json.loads(recipe.model.model_dump_json()),
        bands=recipe.band_set,
        sampling=recipe.sampling,
        training=_record(recipe, run, ancestor),
        limits=(*recipe.limits, *notes(recipe)),
        licence="Apache-2.0",
        citation=(CITATIONS["diffcr" if recipe.method == "diffcr" else "de"],),
    )
    save(path, model, card)
    return card


def notes(recipe: Recipe) -> tuple[str, ...]:
    """What training leaves out of a method's paper: shown when it starts, and kept in the card."""
    prior = getattr(recipe.model, "prior", None)
    if "prior" in recipe.stages and prior in METHODS and METHODS[prior].perceptual and not recipe.perceptual:
        return (f"{prior} was trained without its paper's perceptual term, which needs VGG16 (recipe.perceptual)",)
    return ()


def _record(recipe: Recipe, run: Run, ancestor: TrainingRecord | None) -> TrainingRecord:
    minutes: dict[str, float] = {}
    steps: dict[str, int] = {}
    log = run.out / "log.jsonl"
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        entry = json.loads(line)
        minutes[entry["stage"]] = round(entry["minutes"], 1)
        steps[entry["stage"]] = entry["step"]
    return TrainingRecord(
        recipe=recipe.name,
        settings=json.loads(recipe.model_dump_json(include={"stages", "seed", "sources", "init"})),
        data=tuple(dict.fromkeys(_data(source, run) for source in drawn(recipe, steps))),
        commit=commit(),
        minutes=minutes,
        steps=steps,
        init=ancestor,
    )


def drawn(recipe: Recipe, stages: Iterable[str]) -> list[Source]:
    """The sources that one of these stages draws from, which not all do (Stage.shares)."""
    shares = [recipe.stages[stage].shares for stage in recipe.stages if stage in stages]
    return [source for n, source in enumerate(recipe.sources) if any(s is None or s[n] > 0 for s in shares)]


def _data(source: Source, run: Run) -> str:
    if source.kind == "landscapes":
        name = "generated landscapes"
    else:
        name = source.dataset or (run.data.resolve().name if source.path == "." else source.path)
    if source.clouds:
        return f"{name} under clouds of {source.clouds}"
    return f"{name} under simulated clouds" if source.kind == "clear" and source.path == "." else name


def commit() -> str:
    """The commit of this checkout, "" outside one."""
    root = Path(__file__).parent
    try:
        run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return run.stdout.strip()

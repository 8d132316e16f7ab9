"""Several scenes with one model: a folder, a glob pattern or a list file in, a folder out.

One bad scene is reported and does not stop the rest. `unclouded-manifest.json` in the output folder says what became of
each, so that the same command with --resume does only what is missing.
"""

import glob
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.failures import make_folder, writing
from unclouded.scenes.names import file_name, is_address, without_secrets
from unclouded.scenes.partial import partial_folder
from unclouded.scenes.provenance import file_facts
from unclouded.text_files import read_text

MANIFEST = "unclouded-manifest.json"
SCENE_SUFFIXES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp", ".jp2", ".vrt", ".img"}
WRITTEN_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"}

Restore = Callable[[str, Path, bool], None]  # (scene, output, resume) -> raises UncloudedError


class Outcome(BaseModel):
    """What became of one scene."""

    model_config = ConfigDict(frozen=True)

    input: str
    output: str
    status: Literal["done", "failed"]
    message: str = ""
    source: tuple[str | int, ...] = ()  # name, size and time of change of the input


def find_scenes(text: str) -> list[str] | None:
    """The scenes that INPUT stands for: of a folder, a pattern, or a list file (.txt, one path or address a line).

    None if INPUT names one scene. Raises UsageError if there is nothing in it.
    """
    if not text:
        raise UsageError("The name of the scene is empty. Give INPUT a file, a folder, a pattern or a list.")
    path = Path(text)
    if path.is_dir():
        files = (p for p in path.iterdir() if p.suffix.lower() in SCENE_SUFFIXES and not p.name.startswith("."))
        found = sorted(map(str, files))
    elif path.suffix.lower() == ".txt" and path.is_file():
        lines = [line.strip() for line in read_text(path).splitlines()]
        named = [line for line in lines if line and not line.startswith("#")]
        found = [line if is_address(line) else str(path.parent / line) for line in named]
    elif not is_address(text) and not path.exists() and glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))
    else:
        return None
    if not found:
        raise UsageError(f"There are no scenes in {text}. Give a folder, pattern or list that names some.")
    return found


def output_names(scenes: Sequence[str], folder: Path) -> list[Path]:
    """Where each scene is written: its own name, with .tif for what is not written as itself. Raises UsageError."""
    files = [Path(file_name(scene)) for scene in scenes]
    names = [file.name if file.suffix.lower() in WRITTEN_SUFFIXES else f"{file.stem}.tif" for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"Several scenes would be written as {twice[0]}. Rename them, or run them one by one.")
    return [folder / name for name in names]


def restore_many(scenes: Sequence[str], folder: Path, restore: Restore, resume: bool = False) -> Iterator[Outcome]:
    """Restore every scene into `folder`, yielding what became of each; with `resume`, those that are done are kept."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and several scenes need a folder. Give OUTPUT the name of a folder.")
    outputs = output_names(scenes, folder)
    make_folder(folder)
    known = _read_manifest(folder) if resume else {}
    for scene, output in zip(scenes, outputs, strict=True):
        earlier = known.get(str(output))
        facts = tuple(file_facts(scene))
        if earlier is None or earlier.status != "done" or earlier.source != facts or not output.exists():
            earlier = _restore(scene, output, restore, resume and partial_folder(output).is_dir(), facts)
        known[str(output)] = earlier
        _write_manifest(folder, known)
        yield earlier


def _restore(scene: str, output: Path, restore: Restore, resume: bool, facts: tuple[Any, ...]) -> Outcome:
    names = {"input": without_secrets(scene), "output": str(output)}
    try:
        restore(scene, output, resume)
    except UncloudedError as error:
        return Outcome(**names, status="failed", message=str(error).replace(scene, names["input"]), source=facts)
    return Outcome(**names, status="done", source=facts)


def _read_manifest(folder: Path) -> dict[str, Outcome]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        outcomes = [Outcome.model_validate(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except ValueError as error:
        raise UncloudedError(f"The manifest {path} cannot be read. Remove it, or run without --resume.") from error
    return {outcome.output: outcome for outcome in outcomes}


def _write_manifest(folder: Path, known: dict[str, Outcome]) -> None:
    fresh = folder / f".{MANIFEST}.new"
    with writing(folder / MANIFEST):
        fresh.write_text(json.dumps([outcome.model_dump() for outcome in known.values()], indent=1), encoding="utf-8")
        fresh.replace(folder / MANIFEST)

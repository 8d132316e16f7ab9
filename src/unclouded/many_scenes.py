"""Several scenes with one model: a folder, a glob pattern or a list file in, a folder out; so with masks and maps.

One bad scene is reported and does not stop the rest. `unclouded-manifest.json` in the output folder says what became of
each, so that the same command with --resume does only what is missing.
"""

import glob
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

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
# what is written beside a scene, by the name of its option, and the ending of the file
MAPS = {"mask_out": ".tif", "weights_out": ".tif", "uncertainty_out": ".tif", "preview": ".png", "report": ".html"}


class SceneFiles(NamedTuple):
    """The files of one scene among several."""

    scene: str
    output: Path
    beside: dict[str, Path]  # its maps, by the names of their options, and its own mask, if it has one


Restore = Callable[[SceneFiles, bool], None]  # (files, resume) -> raises UncloudedError


class Outcome(BaseModel):
    """What became of one scene."""

    model_config = ConfigDict(frozen=True)

    input: str
    output: str
    status: Literal["done", "failed"]
    message: str = ""
    source: tuple[str | int, ...] = ()  # name, size and time of change of the input, and of its own mask


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


def output_files(scenes: Sequence[str], folder: Path, maps: Mapping[str, Path]) -> list[SceneFiles]:
    """What each scene is written to: in `folder` under its own name, with .tif for what is not written as itself; its
    maps under that name in the folders `maps`, by option. Raises UsageError if two files would have one name."""
    planned = []
    for scene in scenes:
        file = Path(file_name(scene))
        output = folder / (file.name if file.suffix.lower() in WRITTEN_SUFFIXES else f"{file.stem}.tif")
        beside = {option: place / f"{file.stem}{MAPS[option]}" for option, place in maps.items()}
        planned.append(SceneFiles(scene, output, beside))
    names = Counter(path.resolve() for files in planned for path in (files.output, *files.beside.values()))
    twice = sorted(path for path, count in names.items() if count > 1)
    if twice:
        raise UsageError(
            f"Several files would be written as {twice[0]}. Rename the scenes, or give each option a folder of its own."
        )
    return planned


def own_mask(scene: str, masks: Path) -> Path:
    """The file in the folder `masks` that has the scene's name, with whatever ending. Raises UncloudedError."""
    stem = Path(file_name(scene)).stem
    found = sorted(path for path in masks.iterdir() if path.stem == stem and path.suffix.lower() in SCENE_SUFFIXES)
    if len(found) != 1:
        names = " and ".join(path.name for path in found) or "none"
        raise UncloudedError(f"Of {stem} there should be one mask in {masks}, and there is {names}. Mend the folder.")
    return found[0]


def restore_many(
    scenes: Sequence[str],
    folder: Path,
    restore: Restore,
    resume: bool = False,
    maps: Mapping[str, Path] | None = None,
    masks: Path | None = None,
) -> Iterator[Outcome]:
    """Restore every scene into `folder`, yielding what became of each; with `resume`, those that are done are kept.

    `maps` are the folders of MAPS that are wanted, `masks` is one that holds a mask of each scene's name.
    """
    places = {"OUTPUT": folder} | {f"--{name.replace('_', '-')}": place for name, place in (maps or {}).items()}
    for option, place in places.items():
        if place.exists() and not place.is_dir():
            raise UsageError(
                f"{place} is a file, and several scenes need a folder. Give {option} the name of a folder."
            )
    planned = output_files(scenes, folder, maps or {})
    for place in places.values():
        make_folder(place)
    known = _read_manifest(folder) if resume else {}
    for files in planned:
        outcome = _outcome(files, masks, restore, known.get(str(files.output)), resume)
        known[str(files.output)] = outcome
        _write_manifest(folder, known)
        yield outcome


def _outcome(files: SceneFiles, masks: Path | None, restore: Restore, earlier: Outcome | None, resume: bool) -> Outcome:
    """That of an earlier run, if all that it wrote is there and its scene and mask are the same; else restore it."""
    names = {"input": without_secrets(files.scene), "output": str(files.output)}
    facts = tuple(file_facts(files.scene))
    try:
        if masks is not None:
            mask = own_mask(files.scene, masks)
            files = files._replace(beside=files.beside | {"mask": mask})
            facts += tuple(file_facts(str(mask)))
        whole = all(path.exists() for path in (files.output, *files.beside.values()))
        if earlier is not None and earlier.status == "done" and earlier.source == facts and whole:
            return earlier
        restore(files, resume and partial_folder(files.output).is_dir())
    except UncloudedError as error:
        message = str(error).replace(files.scene, names["input"])
        return Outcome(**names, status="failed", message=message, source=facts)
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

"""Whether the outputs of a run can take their names, asked before any work is done."""

import os
from collections.abc import Mapping
from pathlib import Path

from unclouded.errors import UncloudedError, UsageError


def check_targets(inputs: Mapping[str, str | Path], outputs: Mapping[str, Path], overwrite: bool) -> None:
    """Refuse outputs that would replace an input, each other, or (without `overwrite`) an existing file.

    `inputs` and `outputs` are what is read and written, by what the user calls them ("INPUT", "--mask", "OUTPUT", …).
    Raises UsageError, or UncloudedError for a folder that is missing or may not be written.
    """
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        for other, source in inputs.items():
            if _same(path, source):
                raise UsageError(f"{option} and {other} are the same file, {path}. Give {option} another name.")
        place = path.resolve()
        if place in seen:
            raise UsageError(f"{option} and {seen[place]} are the same file, {path}. Give {option} another name.")
        seen[place] = option
        _check_folder(path)
        if path.is_dir():
            raise UsageError(f"{path} is a folder. Give {option} the name of a file in it.")
        if path.exists() and not overwrite:
            raise UncloudedError(f"{path} exists already. Choose another name, or replace it with --overwrite.")


def _same(path: Path, source: str | Path) -> bool:
    try:
        return path.resolve() == Path(source).resolve() or path.samefile(source)
    except OSError:
        return False


def _check_folder(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise UncloudedError(f"The folder {folder} does not exist. Make it, or choose another place for {path.name}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UncloudedError(f"The folder {folder} may not be written. Choose another place for {path.name}.")

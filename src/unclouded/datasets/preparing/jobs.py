"""The job file of `unclouded data prepare`: which scenes make the benchmark, as YAML or CSV."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from unclouded.errors import UncloudedError, UsageError, first_problem
from unclouded.text_files import read_table, read_text

FILES = ("cloudy", "clear", "cloudy_pan", "clear_pan", "mask")
COLUMNS = ("place", "name", *FILES)
_USUAL_BANDS = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}


class ScenePair(BaseModel):
    """A cloudy and a clear scene of one place, with what belongs to them. A place may have several such pairs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: str
    name: str
    cloudy: Path
    clear: Path
    cloudy_pan: Path | None = None
    clear_pan: Path | None = None
    mask: Path | None = None

    @field_validator("place", "name")
    @classmethod
    def _is_file_name(cls, text: str) -> str:
        if not re.fullmatch(r"[\w-][\w.-]*", text):
            raise ValueError("must be letters, digits, -, _ or . only, since files get this name")
        return text

    @property
    def files(self) -> dict[str, Path]:
        """What is given, by its column."""
        return {column: path for column in FILES if (path := getattr(self, column)) is not None}


class Job(BaseModel):
    """All scene pairs; `bands` names the scenes' bands in the files' order (None: by their number)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    places: tuple[ScenePair, ...]
    bands: tuple[str, ...] | None = None

    def band_names(self, count: int, scene: Path) -> tuple[str, ...]:
        """The names of `count` bands. Raises UsageError if they are not known."""
        names = self.bands or _USUAL_BANDS.get(count)
        if names is None or len(names) != count:
            raise UsageError(
                f"{scene} has {count} bands, and the job names {', '.join(self.bands or ()) or 'none'}, "
                f"where one that is marked as alpha (transparency) does not count. "
                f"List the {count} names under `bands` of a YAML job, in the file's order."
            )
        return names


def read_job(path: Path) -> Job:
    """The job of a .yaml or .csv file; relative paths are relative to it. Raises UsageError for what is wrong."""
    if path.suffix.lower() not in (".csv", ".yaml", ".yml"):
        raise UsageError(f"{path} is not a job file by its name. Give a .yaml or .csv file.")
    try:
        content = _read_csv(path) if path.suffix.lower() == ".csv" else _read_yaml(path)
        job = Job.model_validate({**content, "places": [_filled(row, path) for row in content["places"]]})
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"The job file {path} is not valid ({reason}). Correct it there.") from error
    except ValidationError as error:
        problem = first_problem(error)
        raise UsageError(
            f"The job file {path} is wrong at {problem.where}: {problem.what}. Correct it there."
        ) from error
    _check(job, path)
    return job


def _read_yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(read_text(path))
    if not isinstance(content, dict) or not isinstance(content.get("places"), list):
        raise UsageError(f"The job file {path} has no list `places`. Add one, each entry with place, cloudy and clear.")
    return content


def _read_csv(path: Path) -> dict[str, Any]:
    columns, rows = read_table(path)
    if not {"place", "cloudy", "clear"} <= set(columns) or not set(columns) <= set(COLUMNS):
        raise UsageError(
            f"The job file {path} has the columns {', '.join(columns) or '(none)'}. "
            "It needs place, cloudy and clear, and may have name, cloudy_pan, clear_pan and mask."
        )
    return {"places": [{key: value for key, value in row.items() if value} for row in rows]}


def _filled(row: Any, path: Path) -> Any:
    """The row with its name, and with paths that do not depend on where the command is run."""
    if not isinstance(row, dict):
        return row
    files = {column: path.parent.absolute() / str(row[column]) for column in FILES if row.get(column)}
    return {**row, "name": row.get("name", row.get("place")), **files}


def _check(job: Job, path: Path) -> None:
    if not job.places:
        raise UsageError(f"The job file {path} lists no places. Add one with place, cloudy and clear.")
    names = Counter(pair.name.lower() for pair in job.places)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise UsageError(
            f"The job file {path} has {twice[0]!r} {names[twice[0]]} times. Give each a `name` of its own."
        )
    for pair in job.places:
        for column, file in pair.files.items():
            if not file.is_file():
                raise UncloudedError(f"{column} of {pair.name} in {path} is {file}, which is absent. Correct the path.")

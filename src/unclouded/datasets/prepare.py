"""A benchmark from anyone's scenes, as section III of the DE paper made CUHK-CR from Jilin-1's.

Cloudy and clear scenes of one place are pan-sharpened, aligned, brought to one grid and cut into pairs; pairs that are
clear or totally obscured are left out; whole places go to the train or the test part. The result has the layout of
CUHK-CR, a manifest `pairs.csv` that every other command reads, and a datasheet.

Each place is finished in a folder of its own below `.places/`, so the same command again goes on where it stopped,
makes only what changed, and never leaves an unfinished file under its final name.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from unclouded.datasets.preparing.assemble import Record, assemble, split_places
from unclouded.datasets.preparing.datasheet import write_datasheet
from unclouded.datasets.preparing.jobs import read_job
from unclouded.datasets.preparing.options import PrepareOptions
from unclouded.datasets.preparing.place import prepare_place
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.failures import writing

__all__ = ["PlaceDone", "PrepareOptions", "prepare"]

PLACES = ".places"
DATASHEET = "datasheet.json"


class PlaceDone(NamedTuple):
    """One scene pair that was dealt with; of `total`."""

    name: str
    total: int
    made: bool  # False: kept from an earlier run, or refused
    record: Record | None
    refused: str | None


def prepare(job_file: Path, out: Path, options: PrepareOptions | None = None) -> Iterator[PlaceDone]:
    """Make the benchmark `out` from the scenes of a job, yielding each scene pair as it is done.

    Raises UsageError for a wrong job or option, UncloudedError for scenes that cannot be used. All scene pairs are
    tried before the error is raised; with `skip_bad` the bad ones are only noted in the datasheet.
    """
    options = options or PrepareOptions()
    job = read_job(job_file)
    _begin(out, options)
    records: list[Record] = []
    refused: dict[str, str] = {}
    for pair in job.places:
        try:
            record, made = prepare_place(pair, job, options, out / PLACES / pair.name)
        except UsageError:
            raise
        except UncloudedError as error:
            refused[pair.name] = str(error)
            yield PlaceDone(pair.name, len(job.places), False, None, str(error))
            continue
        records.append(record)
        yield PlaceDone(pair.name, len(job.places), made, record, None)
    if refused and not options.skip_bad:
        raise UncloudedError(
            f"{len(refused)} of {len(job.places)} scene pairs cannot be used, first {next(iter(refused.values()))} "
            "The others are kept: mend the job and run again, or leave the bad ones out with --skip-bad."
        )
    if not records:
        raise UncloudedError(f"No scene pair can be used, first {next(iter(refused.values()))}")
    parts = split_places(records, options.test_share, options.seed)
    assemble(out, out / PLACES, records, parts, options.name, options.format)
    write_datasheet(out, records, parts, options, refused)


def read_datasheet(out: Path) -> dict[str, Any]:
    """What is known of the finished benchmark."""
    facts: dict[str, Any] = json.loads((out / DATASHEET).read_text(encoding="utf-8"))
    return facts


def _begin(out: Path, options: PrepareOptions) -> None:
    """Refuse a folder that holds other things: what is there would be replaced."""
    with writing(out):
        if out.is_dir() and any(out.iterdir()) and not (out / PLACES).is_dir():
            raise UncloudedError(
                f"{out} holds files that were not made by this command. Choose an empty or new folder."
            )
        (out / PLACES).mkdir(parents=True, exist_ok=True)

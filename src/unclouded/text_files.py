"""Text that users hand over: lists, manifests, job files.

It is UTF-8, with or without a byte order mark, or UTF-16 with one, as Windows' shells write it.
"""

import codecs
import csv
import io
from pathlib import Path
from typing import NamedTuple

from unclouded.errors import UncloudedError


def read_text(path: Path) -> str:
    """The whole text. Raises UncloudedError for a file that cannot be read, or is not such text."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UncloudedError(
            f"{path} cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return raw.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UncloudedError(f"{path} is not UTF-8 text (see line {line}). Save it as UTF-8.") from error


class Table(NamedTuple):
    """A CSV file: the names of its columns, and its rows by column; what a short row lacks is empty."""

    columns: list[str]
    rows: list[dict[str, str]]


def read_table(path: Path) -> Table:
    """The whole table. Raises as `read_text`, and UncloudedError for what is not CSV or has rows beyond its columns."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", skipinitialspace=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UncloudedError(f"{path} is not a CSV table ({error}). Correct it there.") from error
    for line, row in enumerate(rows, start=2):
        if None in row:
            raise UncloudedError(
                f"Line {line} of {path} has more cells than there are columns. Put quotes around cells with commas."
            )
    return Table(list(reader.fieldnames or ()), rows)

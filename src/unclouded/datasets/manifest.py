"""A CSV manifest of pairs, with the columns `cloudy,clear[,split][,stem]`, and perhaps `cloudy_nir,clear_nir`, `dates`
and `sar` (see pairs.py)."""

from pathlib import Path

from unclouded.datasets.matching import natural
from unclouded.datasets.pair import Pair
from unclouded.errors import UncloudedError, UsageError
from unclouded.text_files import read_table

MANIFEST = "pairs.csv"


def read_manifest(path: Path) -> list[Pair]:
    """The pairs of a CSV manifest with the columns `cloudy,clear[,split][,stem]`; paths are relative to the CSV."""
    columns, rows = read_table(path)
    if not {"cloudy", "clear"} <= set(columns):
        raise UsageError(
            f"The manifest {path} has the columns {sorted(columns)}. It needs `cloudy` and `clear` "
            "(and may have `split` and `stem`)."
        )
    pairs = [_manifest_pair(row, path, number) for number, row in enumerate(rows, start=2)]
    if not pairs:
        raise UncloudedError(f"The manifest {path} lists no pairs. Add a line for each pair.")
    seen: dict[str, int] = {}
    for number, pair in enumerate(pairs, start=2):
        if pair.stem in seen:
            raise UncloudedError(
                f"Lines {seen[pair.stem]} and {number} of {path} have the same stem {pair.stem!r}. "
                "Give them different values in a `stem` column."
            )
        seen[pair.stem] = number
    return sorted(pairs, key=lambda pair: natural(pair.stem))


def _manifest_pair(row: dict[str, str], path: Path, number: int) -> Pair:
    if not row["cloudy"] or not row["clear"]:
        raise UncloudedError(f"Line {number} of {path} names no cloudy or no clear image. Fill in both, or drop it.")
    cloudy, clear = path.parent / row["cloudy"], path.parent / row["clear"]
    nir = [path.parent / row[column] for column in ("cloudy_nir", "clear_nir") if row.get(column)]
    if len(nir) == 1:
        raise UncloudedError(f"Line {number} of {path} names near infrared {nir[0]} alone. Fill in both, or neither.")
    dates = tuple(path.parent / name.strip() for name in (row.get("dates") or "").split(";") if name.strip())
    sar = (path.parent / row["sar"],) if row.get("sar") else ()
    for image in (cloudy, clear, *nir, *dates, *sar):
        if not image.is_file():
            raise UncloudedError(f"Line {number} of {path} names {image}, which is absent. Correct it or drop it.")
    more: list[tuple[Path, ...]] = [(file,) for file in nir] or [(), ()]
    stem = row.get("stem") or cloudy.stem
    return Pair(stem, cloudy, clear, more[0], more[1], dates, sar, part=row.get("split") or None)

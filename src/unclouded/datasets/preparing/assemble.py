"""Finished places become the benchmark: parts by place, the folders of CUHK-CR, the manifest."""

import csv
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unclouded.datasets.manifest import MANIFEST
from unclouded.datasets.preparing.writing import KINDS
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.failures import writing

Record = dict[str, Any]


def groups_of_places(records: Sequence[Record]) -> list[list[Record]]:
    """Scene pairs that must stay in one part: those of one place, and places whose grids overlap on the ground."""
    groups: list[list[Record]] = []
    for record in records:
        joined = [g for g in groups if any(_together(record, other) for other in g)]
        groups = [g for g in groups if g not in joined] + [[record, *(r for g in joined for r in g)]]
    return groups


def _together(a: Record, b: Record) -> bool:
    west, south, east, north = a["grid"]["lonlat"]
    west2, south2, east2, north2 = b["grid"]["lonlat"]
    overlap = west < east2 and west2 < east and south < north2 and south2 < north
    return bool(a["place"] == b["place"] or overlap)


def split_places(records: Sequence[Record], test_share: float, seed: int) -> dict[str, str]:
    """Place -> train or test, such that the test part has about `test_share` of the pairs. Depends on names and seed,
    not on the order of the job.

    Raises UsageError if there are too few places that lie apart.
    """
    groups = [group for group in groups_of_places(records) if any(r["kept"] for r in group)]
    if not groups:
        raise UncloudedError(
            "No pair is left: all tiles are clear, obscured, without data, or larger than what the scenes share. "
            "See the coverages in the places' place.json, then change the thresholds, the tile or the job."
        )
    if test_share and len(groups) < 2:
        raise UsageError(
            "All pairs are of one place (or of places that overlap), which cannot be split without a leak. "
            "Add places that lie apart, or give --test-share 0."
        )
    groups.sort(key=lambda g: hashlib.sha256(f"{seed}:{min(r['place'] for r in g)}".encode()).hexdigest())
    sizes = [sum(len(r["kept"]) for r in group) for group in groups]
    target, taken, test = test_share * sum(sizes), 0, set[int]()
    for index, size in enumerate(sizes):
        # taken if that brings the part nearer to its share
        if abs(taken + size - target) < abs(taken - target) and len(test) < len(groups) - 1:
            test.add(index)
            taken += size
    if test_share and not test:
        test.add(min(range(len(sizes)), key=sizes.__getitem__))
    return {r["place"]: "test" if i in test else "train" for i, group in enumerate(groups) for r in group}


def assemble(out: Path, staged: Path, records: Sequence[Record], parts: dict[str, str], name: str, suffix: str) -> None:
    """Put the tiles of all places under OUT/name/{train,test}/{cloud,label}/ (and OUT/nir/name/ alike) and write
    pairs.csv.

    Files are hard links to the places' own where the file system has them, so nothing is stored twice.
    """
    rows = [
        (record, tile, parts[record["place"]])
        for record in sorted(records, key=lambda r: str(r["name"]))
        for tile in record["kept"]
    ]
    layers = sorted({layer for record in records for layer in record["layers"]})
    if any(sorted(record["layers"]) != layers or record["bands"] != records[0]["bands"] for record in records):
        raise UncloudedError("The places have different bands. Give scenes with equal bands, or make two benchmarks.")
    with writing(out / name):
        if "nir" not in layers:  # of an earlier run in another format
            shutil.rmtree(out / "nir" / name, ignore_errors=True)
        for layer in layers:
            final = out / layer / name
            partial = final.with_name(f".{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            for part in sorted(set(parts.values())):
                for kind in KINDS:
                    (partial / part / kind).mkdir(parents=True)
            for record, tile, part in rows:
                for kind in KINDS:
                    file = f"{tile['stem']}.{suffix}"
                    _link(staged / record["name"] / layer / kind / file, partial / part / kind / file)
            shutil.rmtree(final, ignore_errors=True)
            partial.replace(final)
    table = [_row(record, tile, part, name, suffix, layers) for record, tile, part in rows]
    write_csv(out / MANIFEST, table)
    left_out = [{"place": r["place"], "name": r["name"], **tile} for r in records for tile in r["left_out"]]
    write_csv(out / "left_out.csv", left_out)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _row(record: Record, tile: Record, part: str, name: str, suffix: str, layers: Sequence[str]) -> dict[str, Any]:
    files = {kind: f"{name}/{part}/{kind}/{tile['stem']}.{suffix}" for kind in KINDS}
    row = {"stem": tile["stem"], "cloudy": files["cloud"], "clear": files["label"]}
    if "nir" in layers:
        row |= {"cloudy_nir": f"nir/{files['cloud']}", "clear_nir": f"nir/{files['label']}"}
    a, _, c, _, e, f = record["grid"]["transform"]
    return row | {
        "split": part,
        "place": record["place"],
        "coverage": tile["coverage"],
        "row": tile["row"],
        "col": tile["col"],
        "crs": record["grid"]["crs"],
        "left": c + a * tile["col"],
        "top": f + e * tile["row"],
        "pixel_width": a,
        "pixel_height": -e,
    }


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as CSV, the file whole or not there; without rows an earlier file is removed."""
    with writing(path):
        if not rows:
            path.unlink(missing_ok=True)
            return
        temporary = path.with_name(f".{path.name}")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        temporary.replace(path)

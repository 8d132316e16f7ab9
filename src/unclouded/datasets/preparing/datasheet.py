"""The datasheet of a benchmark: how it was made, what is in it, and how cloudy (the histograms of Figs. 1 and 2)."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from unclouded.datasets.preparing.assemble import Record
from unclouded.datasets.preparing.options import PrepareOptions
from unclouded.scenes.failures import writing

BINS = 10
COLOURS = {"train": "#3b6ea5", "test": "#d9822b"}
HOW = {
    "mask": "mean of the cloud masks that were given with the scenes",
    "cloud-net": "mean of the probability of cloud that Cloud-Net gives each pixel of the cloudy scene",
    "brightening": "mean opacity of a white veil that explains the brightening from the clear to the cloudy scene; "
    "an estimate, which counts other brightening too and no shadows",
}


def write_datasheet(
    out: Path, records: Sequence[Record], parts: dict[str, str], options: PrepareOptions, refused: dict[str, str]
) -> dict[str, Any]:
    """Write DATASHEET.md, datasheet.json and coverage_{train,test}.svg; gives what the JSON holds."""
    facts = _facts(records, parts, options, refused)
    _write(out / "datasheet.json", json.dumps(facts, indent=1) + "\n")
    for part, counts in facts["coverage_histogram"].items():
        _write(out / f"coverage_{part}.svg", histogram_svg(counts, f"{options.name}, {part}", COLOURS[part]))
    for part in COLOURS.keys() - facts["coverage_histogram"].keys():
        (out / f"coverage_{part}.svg").unlink(missing_ok=True)
    _write(out / "DATASHEET.md", _markdown(facts))
    return facts


def _facts(
    records: Sequence[Record], parts: dict[str, str], options: PrepareOptions, refused: dict[str, str]
) -> dict[str, Any]:
    tiles = [(tile, parts[record["place"]]) for record in records for tile in record["kept"]]
    names = sorted({part for _, part in tiles})
    left_out = [tile["why"] for record in records for tile in record["left_out"]]
    stems = {part: sorted(tile["stem"] for tile, of in tiles if of == part) for part in names}
    return {
        "name": options.name,
        "made_by": f"unclouded {version('unclouded')}, data prepare",
        "options": options.of_place() | {"test_share": options.test_share, "seed": options.seed},
        "coverage_is": HOW[options.coverage],
        "bands": records[0]["bands"],
        "pairs": {part: len(stems[part]) for part in names},
        "places_by_part": {part: sorted(p for p, of in parts.items() if of == part) for part in names},
        "split_hash": {part: hashlib.sha256("\n".join(stems[part]).encode()).hexdigest() for part in names},
        "left_out": {why: left_out.count(why) for why in sorted(set(left_out))},
        "coverage_histogram": {part: histogram([t["coverage"] for t, of in tiles if of == part]) for part in names},
        "places": [
            {
                "name": record["name"],
                "place": record["place"],
                "part": parts.get(record["place"]),
                "pairs": len(record["kept"]),
                "shift": {key: round(value, 4) for key, value in record["match"].items()},
                "grid": record["grid"],
                "files": {column: Path(file[0]).name for column, file in record["inputs"]["files"].items()},
            }
            for record in records
        ],
        "refused": refused,
    }


def histogram(coverages: Sequence[float]) -> list[int]:
    """Counts in 10 equal bins over [0, 1]."""
    return [int(count) for count in np.histogram(coverages, bins=BINS, range=(0, 1))[0]]


def histogram_svg(counts: Sequence[int], title: str, colour: str) -> str:
    """A bar chart of counts over cloud coverage probability."""
    width, height, left, bottom, top = 480, 300, 50, 45, 35
    step, room, most = (width - left - 15) / len(counts), height - bottom - top, max(max(counts), 1)
    marks = []
    for index, count in enumerate(counts):
        x, tall = left + index * step, room * count / most
        marks.append(
            f'<rect x="{x + 1:.1f}" y="{height - bottom - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}" '
            f'fill="{colour}"/>'
            f'<text x="{x + step / 2:.1f}" y="{height - bottom - tall - 4:.1f}">{count or ""}</text>'
        )
    for index in range(0, len(counts) + 1, 2):
        marks.append(f'<text x="{left + index * step:.1f}" y="{height - bottom + 16}">{index / len(counts):.1f}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="11" text-anchor="middle"><rect width="{width}" height="{height}" fill="white"/>'
        f'<text x="{width / 2}" y="20" font-size="13">{title}: {sum(counts)} pairs</text>{"".join(marks)}'
        f'<path d="M{left} {top}V{height - bottom}H{width - 15}" fill="none" stroke="black"/>'
        f'<text x="{width / 2}" y="{height - 10}">cloud coverage probability</text>'
        f'<text transform="translate(18 {height / 2}) rotate(-90)">pairs</text></svg>\n'
    )


def _markdown(facts: dict[str, Any]) -> str:
    options = facts["options"]
    counts = ", ".join(f"{n} {part}" for part, n in facts["pairs"].items())
    lines = [
        f"# {facts['name']}",
        "",
        f"{counts} pairs of {options['tile']} × {options['tile']} pixels; bands {', '.join(facts['bands'])}. "
        f"Made by {facts['made_by']}.",
        "",
        f"- Parts by place, never by tile; places that overlap on the ground are in one part. "
        f"Test share asked {options['test_share']:g}, seed {options['seed']}.",
        *(f"- {part}: sha256 of its stems {value}" for part, value in facts["split_hash"].items()),
        f"- Cloud coverage probability: {facts['coverage_is']}. Kept from {options['least_coverage']:g} to "
        f"{options['most_coverage']:g}.",
        f"- Tiles left out: {', '.join(f'{n} {why}' for why, n in facts['left_out'].items()) or 'none'}.",
        "- Cloudy scenes were aligned to the clear ones by phase correlation and resampled once (cubic).",
        "",
        *(f"![Cloud coverage of the {part} part](coverage_{part}.svg)" for part in facts["coverage_histogram"]),
        "",
        "| scenes | place | part | pairs | shift down, right (pixels) | peak (σ) | blocks | left over (pixels) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place in facts["places"]:
        shift = place["shift"]
        lines.append(
            f"| {place['name']} | {place['place']} | {place['part'] or 'none'} | {place['pairs']} | "
            f"{shift['rows']:.2f}, {shift['cols']:.2f} | {shift['peak']:.1f} | "
            f"{shift['agreeing']} of {shift['blocks']} | {shift['residual']:.2f} |"
        )
    if facts["refused"]:
        lines += ["", "Refused:", "", *(f"- {name}: {why}" for name, why in facts["refused"].items())]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with writing(path):
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)

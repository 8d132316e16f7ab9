"""The public data sets of the DE paper (Table I) and of DiffCR: what they are, how they lie on disk, what is wrong
with them.

The facts stand in `catalog.yaml`, from the data sets' papers and home pages. Where a source does not say, neither do
we.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict

from unclouded.datasets import layouts, splits
from unclouded.datasets.pair import Pair
from unclouded.datasets.problems import copies, pixel_problems
from unclouded.errors import UncloudedError, UsageError


class DataSet(BaseModel):
    """One public data set: `counts` are the published numbers of pairs by part (or under "all"), `size` its images'
    side in pixels, `gsd` the ground sample distance, `gap` the time between cloudy and clear, `frames` the cloudy
    dates a pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    title: str
    home: str
    citation: str
    licence: str
    sensor: str
    counts: dict[str, int]
    size: int
    bands: tuple[str, ...]
    dtype: str
    gsd: str
    gap: str
    layout: str
    split: str
    frames: int = 1
    sar: bool = False
    problems: tuple[str, ...] = ()

    @property
    def written_lists(self) -> dict[str, str]:
        """Our written lists of this set (datasets/splits.py) and their hashes."""
        return {name: splits.split_hash(name) for name in splits.names() if name.startswith(f"{self.name}-")}


_LAYOUTS: dict[str, layouts.Layout] = {
    "rice1": layouts.folders("RICE1", "cloud", "label", "RICE1"),
    "rice2": layouts.folders("RICE2", "cloud", "label", "RICE2"),
    "t-cloud": layouts.parts("T-Cloud", "cloud", "reference", "T-CLOUD", "T-Cloud"),
    "whu-cloud": layouts.cut_by_the_user("the WHU Cloud Dataset", "cloud", "label"),
    "whus2-cr": layouts.whus2,
    "sen12ms-cr": layouts.sen12ms_cr,
    "sen12ms-cr-ts": layouts.sen12ms_cr_ts,
    "cuhk-cr1": layouts.cuhk("CUHK-CR1"),
    "cuhk-cr2": layouts.cuhk("CUHK-CR2"),
    "sen2-mtc-old": layouts.sen2_mtc_old,
    "sen2-mtc-new": layouts.sen2_mtc_new,
}

# CUHK-CR1: all four files of these test pairs equal another pair's (found by Do et al., GeoCR, 2025)
_CUHK1_COPIES = (
    *(1, 2, 24, 35, 41, 43, 45, 47, 48, 51, 52, 54, *range(56, 66), *range(67, 71)),
    *(74, 75, 76, 77, 78, 79, 80, 81, 91, 102),
)
# Tiles of Sen2_MTC_New's test part that Sen2_MTC_Old holds too (found by the same)
_MTC_SHARED_TILES = ("12TUR", "15UVU", "31TBG", "46TEL", "50JML", "54HTJ")

_LEAKS: dict[str, Callable[[str], bool]] = {  # stem -> whether to leave it out with drop_leaks
    "rice2": lambda stem: stem in splits.split("rice2-cloudy-labels"),
    "cuhk-cr1": lambda stem: stem in {f"test-{n}" for n in _CUHK1_COPIES},
    "sen2-mtc-old": lambda stem: stem.startswith(_MTC_SHARED_TILES),
}


@cache
def catalog() -> dict[str, DataSet]:
    """All entries by name."""
    text = (files("unclouded.datasets") / "catalog.yaml").read_text(encoding="utf-8")
    return {name: DataSet(name=name, **facts) for name, facts in yaml.safe_load(text).items()}


def get(name: str) -> DataSet:
    """The entry of that name; UsageError names the known ones."""
    if name not in catalog():
        raise UsageError(f"There is no data set {name!r} in the catalog. Choose one of: {', '.join(catalog())}.")
    return catalog()[name]


def find_pairs(name: str, root: Path, drop_leaks: bool = False) -> list[Pair]:
    """The pairs of a data set below `root`; `drop_leaks` leaves out the known copies, leaks and bad labels.

    Raises UsageError where the layout is another one, saying what was looked for.
    """
    entry = get(name)
    if not root.is_dir():
        raise UncloudedError(f"There is no folder {root}. Give the folder into which {entry.title} was unpacked.")
    pairs = layouts.unique(_LAYOUTS[name](root))
    leaks = _LEAKS.get(name) if drop_leaks else None
    return [pair for pair in pairs if leaks is None or not leaks(pair.stem)]


class Report(NamedTuple):
    """What `check` found: pairs per part, how many are published, what is wrong, and which pairs are there twice."""

    pairs: dict[str, int]
    published: dict[str, int]
    with_sar: int
    leaks: int
    missing: list[str]
    problems: list[str]
    copies: list[tuple[str, str]]


def check(name: str, root: Path, pixels: bool = True) -> Report:
    """Compare a download with what is published, and read it all (headers only if `pixels` is False)."""
    entry = get(name)
    try:
        pairs = find_pairs(name, root)
    except UncloudedError as error:
        return Report({}, entry.counts, 0, 0, [], [str(error)], [])
    parts = sorted({pair.part for pair in pairs if pair.part})
    counts = {"all": len(pairs)} | {part: sum(pair.part == part for pair in pairs) for part in parts}
    missing = [
        f"{part}: {counts.get(part, 0)} of {published} pairs"
        for part, published in entry.counts.items()
        if counts.get(part, 0) < published
    ]
    leaks = sum(map(_LEAKS[name], (pair.stem for pair in pairs))) if name in _LEAKS else 0
    with_sar = sum(bool(pair.sar) for pair in pairs)
    return Report(
        counts, entry.counts, with_sar, leaks, missing, pixel_problems(pairs, pixels), copies(pairs) if pixels else []
    )

"""The papers' tables of scores: the methods, data sets and metrics of each, and the numbers that are printed there."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import yaml

from unclouded.errors import UsageError


class Row(NamedTuple):
    """One method: its name in the paper and the model files that can stand for it, `{data}` being the data set.

    A file of DE over a prior also stands for the prior alone, and without its prior for pure diffusion (`what`).
    """

    title: str
    # (file stem, what: model, prior or diffusion), the first that is there counts
    candidates: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table of scores: methods by data sets. `shrink` averages blocks of pixels of the test images (0.5 m -> 1 m)."""

    name: str
    title: str
    rows: tuple[Row, ...]
    data: tuple[str, ...]
    metrics: tuple[str, ...] = ("psnr", "ssim", "lpips")
    shrink: tuple[int, ...] = (1,)


def _prior(title: str, name: str) -> Row:
    return Row(title, ((f"{name}-{{data}}", "model"), (f"de-{name}-{{data}}", "prior")))


def _de(title: str, name: str) -> Row:
    return Row(title, ((f"de-{name}-{{data}}", "model"),))


def _variants(*names: tuple[str, str, str]) -> tuple[Row, ...]:
    return tuple(Row(title, ((f"de-msda-{{data}}{suffix}", what),)) for title, suffix, what in names)


def _diffcr(*names: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(title, ((f"diffcr-{{data}}{suffix}", "model"),)) for title, suffix in names)


DIFFCR_METRICS = ("psnr", "ssim", "fid", "lpips")  # of Zou et al.'s tables
SEN2_MTC = ("sen2-mtc-old", "sen2-mtc-new")
CLOUDY = Row("cloudy input", (("", "input"),))
METHODS = (
    CLOUDY,
    _prior("SpA-GAN", "spagan"),
    _prior("AMGAN-CR", "amgan"),
    _prior("CVAE", "cvae"),
    _prior("pix2pix", "pix2pix"),
    _prior("MemoryNet", "memorynet"),
    _prior("MSDA-CR", "msda"),
    _de("DE-MemoryNet", "memorynet"),
    _de("DE-MSDA", "msda"),
)


TABLES = {
    table.name: table
    for table in (
        Table("table5", "Table V: RICE", METHODS, ("rice1", "rice2")),
        Table("table6", "Table VI: CUHK-CR", METHODS, ("cuhk-cr1", "cuhk-cr2")),
        Table(
            "table7",
            "Table VII: trained at one resolution, tested at another",
            _variants(
                ("trained at 0.5 m", "", "model"), ("trained at 1 m", "-1m", "model"), ("at 2 m", "-2m", "model")
            ),
            ("cuhk-cr1", "cuhk-cr2"),
            shrink=(1, 2),
        ),
        Table(
            "table8",
            "Table VIII: coarse-to-fine training",
            _variants(("fine only", "-fine", "model"), ("coarse to fine", "", "model")),
            ("rice2", "cuhk-cr1"),
        ),
        Table(
            "table9",
            "Table IX: reference prior, weight allocation, joint training",
            _variants(
                ("pure diffusion", "", "diffusion"),
                ("reference prior alone", "", "prior"),
                ("DE, not trained jointly", "-weights", "model"),
                ("DE", "", "model"),
            ),
            ("rice2", "cuhk-cr1"),
        ),
        Table(
            "diffcr-frames",
            "DiffCR: cloudy dates that it sees",
            (CLOUDY, *_diffcr(("N = 1", "-n1"), ("N = 2", "-n2"), ("N = 3", ""))),
            SEN2_MTC,
            DIFFCR_METRICS,
        ),
        Table(
            "diffcr-prediction",
            "DiffCR: what the network predicts",
            _diffcr(("x0", ""), ("ε", "-eps")),
            SEN2_MTC,
            DIFFCR_METRICS,
        ),
        Table(
            "diffcr-blocks",
            "DiffCR: pooled gates of its blocks",
            _diffcr(("mean and max (TCF)", ""), ("mean", "-mean"), ("max", "-max"), ("none", "-none")),
            SEN2_MTC,
            DIFFCR_METRICS,
        ),
    )
}


def get(name: str) -> Table:
    """The table of that name; UsageError names the known ones."""
    if name not in TABLES:
        raise UsageError(f"There is no table {name!r}. Choose one of: {', '.join(TABLES)}.")
    return TABLES[name]


@cache
def published() -> dict[str, Any]:
    """Table -> method -> data set -> metric -> number, as printed."""
    text = (files("unclouded.evaluation") / "published.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found

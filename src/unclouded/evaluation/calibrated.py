"""From a measured calibration to a model file that carries it."""

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclouded.errors import UncloudedError
from unclouded.models import store
from unclouded.models.card import ModelCard, SpreadCalibration

if TYPE_CHECKING:
    from unclouded.restore import Restorer

LEVEL = 0.6827  # ± one standard deviation


def uncalibrated(restorer: "Restorer") -> "Restorer":
    """The same model whose spread is that of its samples, whatever factors its card has."""
    plain = copy.copy(restorer)
    plain.card = restorer.card.model_copy(update={"spread_scale": (), "calibration": None})
    return plain


def store_calibration(source: Path, target: Path, summary: dict[str, Any], command: str = "") -> ModelCard:
    """Write the model file `source` to `target` with the factors that an evaluation found, and return its card.

    `summary` is that of `unclouded evaluate` with several samples. Raises UncloudedError if it has too few images, or
    a band whose spread or error is zero, to fit a factor.
    """
    found = summary.get("calibration")
    if found is None:
        raise UncloudedError(
            f"No spread was found in the {summary['n']} images. Give pairs of at most 1024 × 1024 pixels, and a model "
            f"that is sampled, with --samples 2 or more."
        )
    if summary["n"] < 2:
        raise UncloudedError("One image cannot show that a calibration holds for others. Give two pairs or more.")
    if not all(math.isfinite(factor) and factor > 0 for factor in found["scale"]):
        raise UncloudedError(f"The spread's factors {found['scale']} are no use. Give images that the model changes.")
    calibration = SpreadCalibration(
        data=Path(summary["data"]).name,
        split=summary["split"] or "all",
        split_hash=summary["split_hash"],
        images=summary["n"],
        samples=summary["sampling"]["samples"],
        level=LEVEL,
        coverage_raw=tuple(found["coverage"][f"{LEVEL:g}"]),
        coverage_held_out=tuple(found["coverage_held_out"][f"{LEVEL:g}"]),
        rank_correlation=_known(found["rank_correlation"]),
        rank_correlation_within=_known(found["rank_correlation_within"]),
        coverage_apart=found["coverage_apart"],
        reliability=found["reliability"],
        command=command,
    )
    changes = {"spread_scale": tuple(found["scale"]), "calibration": calibration}
    card = store.read_card(source).model_copy(update=changes)
    store.with_card(source, target, card)
    return card


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None

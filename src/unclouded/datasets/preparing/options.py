"""How a benchmark is made."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unclouded.datasets.preparing.coverage import SHIPPED, SOURCES
from unclouded.errors import UsageError
from unclouded.models.store import sha256
from unclouded.scenes.masks import marked_by

FORMATS = ("png", "tif")


@dataclass(frozen=True)
class PrepareOptions:
    """Thresholds and forms. Tile and test share are those of section III of the DE paper; the thresholds are ours."""

    name: str = "benchmark"  # the folder of the pairs, as CUHK-CR1 is
    tile: int = 512
    coverage: str = "mask"  # one of SOURCES
    cloud_net: Path = SHIPPED  # its weights
    mask_values: str | None = None
    least_coverage: float = 0.02  # below it a pair counts as clear
    most_coverage: float = 0.98  # above it as totally obscured
    test_share: float = 0.2
    seed: int = 0
    format: str = "png"
    stretch: tuple[float, float] | None = None  # the DN that become 0 and 255, or dark and white
    pixel_size: float | None = None  # in units of the clear scene's coordinate system
    max_shift: float = 64.0  # pixels
    least_peak: float = 10.0  # standard deviations
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.coverage not in SOURCES:
            raise UsageError(
                f"The coverage source {self.coverage!r} is unknown. Use {', '.join(SOURCES[:-1])} or {SOURCES[-1]}."
            )
        if self.format not in FORMATS:
            raise UsageError(f"The format {self.format!r} is unknown. Use {' or '.join(FORMATS)}.")
        if not 0 <= self.least_coverage < self.most_coverage <= 1:
            raise UsageError(
                f"Coverages from {self.least_coverage:g} to {self.most_coverage:g} leave nothing. "
                "Give a range within 0 to 1."
            )
        if not 0 <= self.test_share < 1:
            raise UsageError(f"The test share is {self.test_share:g}. Give a share from 0 to below 1.")
        if self.stretch is not None and not self.stretch[0] < self.stretch[1]:
            raise UsageError(f"The stretch {self.stretch} is no range. Give the lower value first, as in 0,2000.")
        for what, value in (("tile", self.tile), ("pixel size", self.pixel_size), ("largest shift", self.max_shift)):
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"The {what} is {value:g}. Give a positive number.")
        if self.coverage == "cloud-net" and not self.cloud_net.is_file():
            raise UsageError(
                f"There is no Cloud-Net file {self.cloud_net}. Train one with `unclouded data cloud-net`, or give "
                "masks."
            )
        if not self.name or "/" in self.name or self.name.startswith(".") or self.name == "nir":
            raise UsageError(f"The name {self.name!r} cannot be the folder of the pairs. Give a plain name.")
        marked_by(self.mask_values)

    def of_place(self) -> dict[str, Any]:
        """What decides the tiles of a place; the other options only arrange finished tiles."""
        arranging = ("name", "test_share", "seed", "skip_bad", "cloud_net")
        stretch = list(self.stretch) if self.stretch else None
        network = {"cloud_net": sha256(self.cloud_net)} if self.coverage == "cloud-net" else {}
        return {k: v for k, v in asdict(self).items() if k not in arranging} | {"stretch": stretch} | network

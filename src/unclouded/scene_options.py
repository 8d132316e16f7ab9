"""The choices of `unclouded remove` and `restore_scene`, and the report that both give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from unclouded.sampling import Quality, Sampling
from unclouded.scenes.bands import DnRange

BATCH_SIZE = 4  # tiles of 256 × 256 pixels restored together, or as many larger ones as have no more pixels
GPU_BATCH_SIZE = 16
OVERLAP = 64
PANEL_WIDTH = 2560  # columns in memory at a time, unless --max-memory says otherwise


@dataclass(frozen=True)
class SceneOptions:
    """How a scene is restored; the options of `unclouded remove`, see `restore_scene`."""

    quality: Quality = "balanced"
    sampling: Sampling | Mapping[str, Any] | None = None
    bands: Sequence[int] | None = None
    value_range: tuple[float, float] | None = None
    reflectance: tuple[float, float] | None = None
    stretch: str | None = None
    dates: Sequence[str | Path] = ()
    sar: str | Path | None = None
    mask: str | Path | None = None
    mask_values: str | None = None
    mask_dilate: str = "0"
    mask_feather: str = "0"
    tile: int | None = None  # None: about what suits the model, so that the tiles divide the scene evenly
    overlap: int = OVERLAP
    batch_size: int | None = None  # tiles restored together; None: what suits the device
    panel_width: int = PANEL_WIDTH
    max_memory: str | None = None
    mask_out: Path | None = None
    weights_out: Path | None = None
    weights_step: int | None = None
    uncertainty_out: Path | None = None
    preview: Path | None = None
    report: Path | None = None
    cog: bool = False
    stac: bool = False
    overwrite: bool = False
    resume: bool = False

    def conditions(self) -> dict[str, str | Path]:
        """The files of further dates and radar, by option."""
        radar = {} if self.sar is None else {"--sar": self.sar}
        return {f"--date {path}": path for path in self.dates} | radar

    def outputs(self, dst: Path) -> dict[str, Path]:
        """The files beside `dst` that were asked for, by option."""
        asked = {
            "--stac": dst.parent / f"{dst.stem}.json" if self.stac else None,
            "--mask-out": self.mask_out,
            "--weights-out": self.weights_out,
            "--uncertainty-out": self.uncertainty_out,
            "--preview": self.preview,
            "--report": self.report,
        }
        return {option: Path(path) for option, path in asked.items() if path is not None}


class SceneReport(BaseModel):
    """What was done to a scene; `--json` prints it."""

    model_config = ConfigDict(frozen=True)

    input: str
    output: str
    model: str
    scene: dict[str, Any]
    bands: dict[str, int]  # model band -> scene band
    passed_through: tuple[int, ...]  # scene bands that were copied
    dn_range: DnRange
    sampling: Sampling | None
    dates: tuple[str, ...]  # further cloudy images that the model saw
    sar: str | None
    mask: str
    tile: tuple[int, int]  # height, width
    overlap: int
    tiles: int
    pixels: dict[str, int]  # input, blended, synthesised, nodata
    files: dict[str, str]
    uncertainty: str | None = None  # what ± means, if several samples were drawn for it
    notes: tuple[str, ...] = ()
    seconds: float

"""What a model is told of a place besides the scene: further cloudy dates, and Sentinel-1's radar image, which sees
through clouds. Each lies on the scene's grid (same_grid.on_grid) and is read with it, window by window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError
from unclouded.scenes.bands import SAR_LOW, DnRange, backscatter
from unclouded.scenes.probe import bands_by_name, data_mask, sample
from unclouded.scenes.raster import Array, Mask, Scene, SceneInfo, sample_valid
from unclouded.scenes.tiles import Window

Float32 = NDArray[np.float32]
DECIBELS = (-60.0, 0.0)  # the median of a backscatter image lies between: noise floor, and as bright as a mirror


class Condition(Protocol):
    """One further image of the place."""

    @property
    def channels(self) -> int: ...

    def read(self, window: Window, y: Float32) -> Float32:
        """[channels, h, w] in [0, 1] of the scene's window, where the model sees `y` [C, h, w] of the scene itself."""
        ...


@dataclass(frozen=True)
class FurtherDate:
    """A cloudy image of another day; where it has no data the model sees the scene again."""

    scene: Scene
    bands: tuple[int, ...]  # its band (1-based) of every model channel
    dn_range: DnRange

    @property
    def channels(self) -> int:
        return len(self.bands)

    def read(self, window: Window, y: Float32) -> Float32:
        return shown(*read_valid(self.scene, window, self.bands), self.dn_range, y)


@dataclass(frozen=True)
class Radar:
    """Sentinel-1's VV and VH in dB; where it has no data, or no echo, it is 0."""

    scene: Scene
    bands: tuple[int, ...]

    @property
    def channels(self) -> int:
        return len(self.bands)

    def read(self, window: Window, y: Float32) -> Float32:
        db, valid = read_valid(self.scene, window, self.bands)
        return backscatter(np.where(valid, db, np.float32(np.nan)))


def read_valid(scene: Scene, window: Window, bands: Sequence[int]) -> tuple[Array, Mask]:
    """DN of these bands [C, h, w], and which of them are data."""
    dn = scene.read(window, bands)
    return dn, sample_valid(dn, scene.info, bands, data_mask(scene, window, bands))


def shown(dn: Array, valid: Mask, dn_range: DnRange, fill: Float32) -> Float32:
    """What a model sees of DN [C, h, w]: [0, 1], and `fill` (of that shape, or [C, 1, 1]) where there is no data."""
    y = dn_range.to_model(np.where(valid, dn, 0) if dn.dtype.kind == "f" else dn)
    if not valid.all():
        np.copyto(y, fill, where=~valid)
    return y


def radar_bands(scene: Scene) -> tuple[int, ...]:
    """Where VV and VH are: by their descriptions, else in this order. Raises UncloudedError for what is not them."""
    info = scene.info
    bands = bands_by_name(info, tuple(SAR_LOW)) or info.data_bands
    if len(bands) != len(SAR_LOW):
        raise UncloudedError(
            f"{info.name} has {_count(info)}, where Sentinel-1's VV and VH in dB were looked for. Give --sar one file "
            f"of these two, which gdalbuildvrt -separate makes of two files."
        )
    medians = sample(scene, bands)[0]
    if not all(DECIBELS[0] < median < DECIBELS[1] for median in medians):
        raise UncloudedError(
            f"The numbers of {info.name} (medians {', '.join(f'{m:.4g}' for m in medians)}) are not decibels of "
            f"backscatter, which is below 0 nearly everywhere. Give 10·log10 of the calibrated power."
        )
    return bands


def _count(info: SceneInfo) -> str:
    return "1 band" if len(info.data_bands) == 1 else f"{len(info.data_bands)} bands"

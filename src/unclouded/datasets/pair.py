"""A pair of a cloudy and a clear image of one place, and how its files are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.images import read_image
from unclouded.errors import UncloudedError


@dataclass(frozen=True)
class Pair:
    """One place seen twice: `cloudy` is what the model gets, `clear` what it should give.

    `more_cloudy` and `more_clear` hold one further band each, the first of its file (CUHK-CR keeps near infrared
    apart). `dates` are more cloudy images of the place, for models that take several; `sar` are Sentinel-1 images in
    dB, VV and VH. `part` is the data set's own split.
    """

    stem: str
    cloudy: Path
    clear: Path
    more_cloudy: tuple[Path, ...] = ()
    more_clear: tuple[Path, ...] = ()
    dates: tuple[Path, ...] = ()
    sar: tuple[Path, ...] = ()
    part: str | None = None

    def read_cloudy(self) -> NDArray[np.generic]:
        """The cloudy image [C, H, W] with all its bands, in the files' dtype."""
        return _stack(self.cloudy, self.more_cloudy)

    def read_clear(self) -> NDArray[np.generic]:
        """The clear image [C, H, W] with all its bands, in the files' dtype."""
        return _stack(self.clear, self.more_clear)

    def read(self) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """(cloudy, clear), each [C, H, W] in the files' dtype."""
        return self.read_cloudy(), self.read_clear()

    @property
    def frames(self) -> int:
        """How many cloudy images there are of the place."""
        return 1 + len(self.dates)

    def read_frames(self, most: int | None = None) -> NDArray[np.generic]:
        """The cloudy images [N, C, H, W], `cloudy` first: all of them, or the first `most`."""
        others = self.dates if most is None else self.dates[: most - 1]
        return np.stack([self.read_cloudy(), *(read_image(path) for path in others)])

    def read_sar(self) -> NDArray[np.generic] | None:
        """Backscatter [2, H, W] in dB (VV, VH), or None where there is no Sentinel-1 image."""
        if not self.sar:
            return None
        radar = np.concatenate([read_image(path) for path in self.sar])
        if len(radar) != 2:
            raise UncloudedError(f"{self.sar[0]} has {len(radar)} bands, where VV and VH were looked for. Replace it.")
        return radar

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.cloudy, *self.more_cloudy, self.clear, *self.more_clear, *self.dates, *self.sar)


def _stack(first: Path, more: Sequence[Path]) -> NDArray[np.generic]:
    image = read_image(first)
    return np.concatenate([image, *(read_image(path)[:1] for path in more)]) if more else image

"""Tiles as files: PNG as CUHK-CR has them (RGB and near infrared apart), or GeoTIFF with all bands as they are."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unclouded.datasets.images import write_tiff
from unclouded.datasets.preparing.affine_maps import shifted
from unclouded.datasets.preparing.grid import Grid
from unclouded.datasets.preparing.options import PrepareOptions
from unclouded.errors import UsageError
from unclouded.scenes.failures import writing
from unclouded.scenes.tiles import Window

RGB = ("red", "green", "blue")
KINDS = ("cloud", "label")


class TileWriter:
    """Writes the tiles of a place to `folder`/cloud/ and label/ (and nir/cloud/ and nir/label/).

    `range` holds the DN that become dark and white, None if they are not known. Raises UsageError for scenes that the
    format cannot hold.
    """

    def __init__(
        self,
        folder: Path,
        options: PrepareOptions,
        bands: tuple[str, ...],
        dtype: np.dtype[Any],
        grid: Grid,
        scene: Path,
    ) -> None:
        self._folder, self._grid, self._dtype, self._bands = folder, grid, dtype, bands
        self.format = options.format
        self.range = options.stretch or ((0.0, 255.0) if dtype == np.uint8 else None)
        self._layers = _layers(bands, scene) if self.format == "png" else {"": tuple(range(len(bands)))}
        if self.format == "png" and self.range is None:
            raise UsageError(
                f"{scene} holds {dtype}, and PNG tiles are 8 bit. "
                "Give --stretch LOW,HIGH (the values that become 0 and 255), or --format tif."
            )
        for layer in self._layers:
            for kind in KINDS:
                with writing(folder):
                    (folder / layer / kind).mkdir(parents=True)

    @property
    def layers(self) -> list[str]:
        """The folders that hold bands: '' and perhaps 'nir'."""
        return list(self._layers)

    def write(self, stem: str, window: Window, cloudy: NDArray[Any], clear: NDArray[Any]) -> None:
        """One pair; DN [C, h, w] each."""
        for kind, dn in zip(KINDS, (cloudy, clear), strict=True):
            for layer, bands in self._layers.items():
                path = self._folder / layer / kind / f"{stem}.{self.format}"
                with writing(path):
                    if self.format == "png":
                        self._write_png(path, dn[list(bands)])
                    else:
                        self._write_tif(path, window, dn)

    def _write_png(self, path: Path, dn: NDArray[Any]) -> None:
        assert self.range is not None
        low, high = self.range
        scaled = np.clip((dn.astype(np.float64) - low) * (255 / (high - low)), 0, 255)
        Image.fromarray(np.rint(scaled).astype(np.uint8).transpose(1, 2, 0).squeeze()).save(path)

    def _write_tif(self, path: Path, window: Window, dn: NDArray[Any]) -> None:
        transform = shifted(self._grid.transform, window.row, window.col)
        write_tiff(path, dn.astype(self._dtype), self._bands, crs=self._grid.crs, transform=transform)


def _layers(bands: tuple[str, ...], scene: Path) -> dict[str, tuple[int, ...]]:
    """Which bands (0-based) go to which folder."""
    if len(bands) == 1:
        return {"": (0,)}
    if set(bands) not in (set(RGB), {*RGB, "nir"}) or len(set(bands)) != len(bands):
        raise UsageError(
            f"{scene} has the bands {', '.join(bands)}, and PNG tiles hold one band, or red, green, blue and perhaps "
            "nir. Use --format tif."
        )
    rgb = tuple(bands.index(name) for name in RGB)
    return {"": rgb, "nir": (bands.index("nir"),)} if "nir" in bands else {"": rgb}

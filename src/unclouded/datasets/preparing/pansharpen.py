"""Pan-sharpening by GDAL: a scene's bands at the resolution of its panchromatic band (weighted Brovey, Hsu et al.).

GDAL does the work while pixels are read, from a description in XML (VRTPansharpenedDataset); nothing is written.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.vrt import WarpedVRT

from unclouded.datasets.preparing.affine_maps import scaled
from unclouded.errors import UncloudedError
from unclouded.scenes.failures import reading

RESAMPLING = "Bilinear"  # cubic overshoots below 0 beside bright roofs, and Brovey turns that into coloured specks
FIT_SIZE = 512  # longest side of the thumbnails on which the weights are fitted


@contextmanager
def open_sharpened(scene: Path, pan: Path | None) -> Iterator[Any]:
    """The scene as an open rasterio dataset, sharpened if there is a panchromatic band."""
    with reading(scene), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(scene)
    with file:
        if pan is None:
            yield file
            return
        with reading(pan):
            panchromatic = rasterio.open(pan)
        with panchromatic:
            _check(file, panchromatic)
            with reading(scene):
                weights = fit_weights(file, panchromatic)
                sharpened = rasterio.open(describe(file, panchromatic, weights))
            with sharpened:
                yield sharpened


def _check(scene: Any, pan: Any) -> None:
    if pan.count != 1:
        raise UncloudedError(f"{pan.name} has {pan.count} bands. Give the panchromatic band as a file of one band.")
    for file in (scene, pan):
        if file.crs is None:
            raise UncloudedError(f"{file.name} has no coordinate system. Georeference it, then pan-sharpen.")
    if pan.crs != scene.crs:
        raise UncloudedError(
            f"{pan.name} is in {pan.crs.to_string()} and {scene.name} in {scene.crs.to_string()}. "
            "Warp one to the other's coordinate system first."
        )
    if pan.res[0] >= scene.res[0]:
        raise UncloudedError(
            f"{pan.name} has pixels of {pan.res[0]:g}, no finer than {scene.name} with {scene.res[0]:g}. "
            "Give the finer panchromatic band, or none."
        )
    a, b = scene.bounds, pan.bounds
    if a.right <= b.left or b.right <= a.left or a.top <= b.bottom or b.top <= a.bottom:
        raise UncloudedError(f"{pan.name} does not overlap {scene.name}. Give the panchromatic band of that scene.")


def fit_weights(scene: Any, pan: Any) -> NDArray[np.float64]:
    """Weights [C] ≥ 0 of the bands that add up to the panchromatic band best, in the sense of least squares.

    With them the sharpened bands keep the level of the scene's. A band that the panchromatic one does not see gets 0.
    """
    step = max(1, -(-max(scene.height, scene.width) // FIT_SIZE))
    height, width = -(-scene.height // step), -(-scene.width // step)
    transform = scaled(scene.transform, scene.width / width, scene.height / height)
    place = {"crs": scene.crs, "transform": transform, "height": height, "width": width}
    bands = scene.read(out_shape=(scene.count, height, width), resampling=Resampling.average).astype(np.float64)
    seen = scene.dataset_mask(out_shape=(height, width)) != 0
    with WarpedVRT(pan, resampling=Resampling.average, add_alpha=pan.nodata is None, **place) as low:
        target = low.read(1).astype(np.float64)
        seen &= low.dataset_mask() != 0
    if seen.sum() < scene.count:
        raise UncloudedError(f"{pan.name} and {scene.name} share no pixels with data. Give the bands of one scene.")
    return nonnegative_least_squares(bands[:, seen].T, target[seen])


def nonnegative_least_squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """x ≥ 0 with small ‖a x − b‖, dropping the most negative unknown until none is left; equal weights if all drop."""
    kept = list(range(a.shape[1]))
    while kept:
        x = np.linalg.lstsq(a[:, kept], b, rcond=None)[0]
        if (x >= 0).all() and x.any():
            weights = np.zeros(a.shape[1])
            weights[kept] = x
            return weights
        kept.pop(int(np.argmin(x)))
    return np.full(a.shape[1], 1 / a.shape[1])


def describe(scene: Any, pan: Any, weights: Sequence[float] | NDArray[np.float64]) -> str:
    """The VRTPansharpenedDataset of GDAL's documentation, as XML that rasterio opens."""

    def source(file: Any, band: int) -> str:
        name = escape(str(Path(file.name).absolute()))
        return f'<SourceFilename relativeToVRT="0">{name}</SourceFilename><SourceBand>{band}</SourceBand>'

    bands = "".join(f'<SpectralBand dstBand="{i}">{source(scene, i)}</SpectralBand>' for i in scene.indexes)
    nodata = "" if scene.nodata is None else f"<NoData>{scene.nodata:.17g}</NoData>"
    return (
        '<VRTDataset subClass="VRTPansharpenedDataset"><PansharpeningOptions><Algorithm>WeightedBrovey</Algorithm>'
        f"<AlgorithmOptions><Weights>{','.join(f'{w:.12g}' for w in weights)}</Weights></AlgorithmOptions>"
        f"<Resampling>{RESAMPLING}</Resampling><NumThreads>1</NumThreads>{nodata}"
        "<SpatialExtentAdjustment>Intersection</SpatialExtentAdjustment>"
        f"<PanchroBand>{source(pan, 1)}</PanchroBand>{bands}</PansharpeningOptions></VRTDataset>"
    )

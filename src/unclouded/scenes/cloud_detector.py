"""`--mask auto` for Sentinel-2 L1C: s2cloudless finds the clouds before anything is restored.

Used where a scene has the 13 bands of L1C and the extra `clouds` is installed. Per pixel, s2cloudless gives the
probability of cloud from ten bands' reflectance; as its authors advise for 10 m, it is averaged (radius 220 m), cut at
0.4 and widened by 110 m; then it is feathered by 8 pixels. It does not look for cloud shadows.

Zupanc, "Improving cloud detection with machine learning" (2017); https://github.com/sentinel-hub/sentinel2-cloud-detector.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.scenes.auto_mask import FEATHER, average
from unclouded.scenes.bands import REFLECTANCE_SCALE
from unclouded.scenes.masks import Distance, opacity_around
from unclouded.scenes.probe import data_mask, plain_name
from unclouded.scenes.raster import Scene, SceneInfo, sample_valid
from unclouded.scenes.tiles import Window

Float32 = NDArray[np.float32]
L1C = ("b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b8a", "b9", "b10", "b11", "b12")
THRESHOLD = 0.4
AVERAGE_METRES, DILATE_METRES = 220.0, 110.0
PIXEL_METRES = 10.0  # of scenes without a grid


def l1c_bands(info: SceneInfo) -> tuple[int, ...] | None:
    """The scene bands that are B1, B2, …, B8, B8A, B9, … B12; None if the scene is not Sentinel-2 L1C.

    Thirteen bands of 16 bits or floats are, by their names, or, if no band has a name, in that order.
    """
    bands = info.data_bands
    if len(bands) != len(L1C) or info.dtype.itemsize < 2:
        return None
    names = [plain_name(info.descriptions[b - 1]) if info.descriptions else "" for b in bands]
    if not any(names):
        return bands
    return tuple(bands[names.index(name)] for name in L1C) if sorted(names) == sorted(L1C) else None


def load_detector() -> Any | None:
    """s2cloudless' detector of probabilities; None if the extra `clouds` is not installed."""
    try:
        from s2cloudless import S2PixelCloudDetector
    except ImportError:
        return None
    return S2PixelCloudDetector(threshold=THRESHOLD, all_bands=True, average_over=None, dilation_size=None)


class CloudMask:
    """The opacity of a Sentinel-2 L1C scene's pixels from the probability of cloud, by windows."""

    def __init__(
        self, scene: Scene, bands: tuple[int, ...], detector: Any, reflectance: tuple[float, float] | None = None
    ) -> None:
        self._scene, self._bands, self._detector = scene, bands, detector
        self._scale, self._offset = _scaling(scene.info, bands, reflectance)
        self._radius = max(1, round(_pixels(AVERAGE_METRES, scene.info)))
        self._dilate = _pixels(DILATE_METRES, scene.info)
        self._margin = self._radius + int(np.ceil(self._dilate)) + FEATHER

    def opacity(self, window: Window) -> Float32:
        """Opacity [h, w] of the scene's `window`; the same whatever windows a scene is cut into."""
        margin, info = self._margin, self._scene.info
        top, left = max(0, window.row - margin), max(0, window.col - margin)
        bottom, right = min(info.height, window.bottom + margin), min(info.width, window.right + margin)
        probability = self._probability(Window(top, left, bottom - top, right - left))
        smooth = average(average(probability, 0, self._radius), 1, self._radius)
        opacity = opacity_around(smooth > THRESHOLD, self._dilate, FEATHER)
        rows = slice(window.row - top, window.row - top + window.height)
        return opacity[rows, window.col - left : window.col - left + window.width]

    def _probability(self, window: Window) -> Float32:
        """Probability of cloud [h, w]; 0 where a band has no data."""
        dn = self._scene.read(window, self._bands)
        where = data_mask(self._scene, window, self._bands)
        valid = sample_valid(dn, self._scene.info, self._bands, where)
        reflectance = np.where(valid, dn * self._scale + self._offset, 0.0)
        found = self._detector.get_cloud_probability_maps(np.moveaxis(reflectance, 0, -1)[None])[0]
        return np.where(valid.all(axis=0), found, 0).astype(np.float32)


def _pixels(metres: float, info: SceneInfo) -> float:
    if info.crs is None or info.transform.is_identity:
        return metres / PIXEL_METRES
    return Distance(metres, metres=True).in_pixels(info)


def _scaling(
    info: SceneInfo, bands: tuple[int, ...], reflectance: tuple[float, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale and offset to reflectance per band, [13, 1, 1]: the user's, the file's, or DN / 10000 for integers."""
    scales, offsets = ([values[b - 1] for b in bands] for values in (info.scales, info.offsets))
    if reflectance is not None:
        scales, offsets = [reflectance[0]] * len(bands), [reflectance[1]] * len(bands)
    elif set(scales) == {1.0} and not any(offsets) and info.dtype.kind in "ui":
        scales = [REFLECTANCE_SCALE] * len(bands)
    return np.array(scales)[:, None, None], np.array(offsets)[:, None, None]

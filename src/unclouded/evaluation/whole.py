"""Metrics beside the protocols': LPIPS per image, and what only a whole set has, FID and calibration."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError
from unclouded.evaluation.calibration import Calibrator
from unclouded.evaluation.fid import Features, FeatureStatistics, frechet_distance

if TYPE_CHECKING:
    from unclouded.evaluation.evaluate import Images

Array = NDArray[Any]


class Whole:
    """Feed it every image, then ask for `result`."""

    def __init__(self, lpips: Callable[[Array, Array], float] | None, features: Features | None) -> None:
        self._lpips = lpips
        self._features = features
        self._restored, self._clear = FeatureStatistics(), FeatureStatistics()
        self._calibrator = Calibrator()
        self._has_spread = False

    @classmethod
    def open(cls, protocol: str, lpips: Path | None, fid: Path | None) -> "Whole":
        """With the networks in these files, if given. Raises UsageError, saying where to get them, if they are
        absent."""
        distance = None
        if lpips is not None:
            from unclouded.evaluation.lpips import load

            network = load(lpips)

            def distance(restored: Array, clear: Array) -> float:
                return network.score(restored, clear, protocol)

        return cls(distance, None if fid is None else load_features(fid))

    def per_image(self, restored: Array, clear: Array) -> dict[str, float]:
        """Metrics of one image that need a network."""
        return {} if self._lpips is None else {"lpips": self._lpips(restored, clear)}

    def feed(self, images: "Images") -> None:
        if self._features is not None:
            self._restored.feed(self._features(images.restored))
            self._clear.feed(self._features(images.clear))
        if images.spread is not None:
            self._has_spread = True
            self._calibrator.feed(images.restored, images.clear, images.spread, images.cloudy)

    def result(self) -> dict[str, Any]:
        """FID, and calibration where several samples were drawn."""
        found: dict[str, Any] = {}
        if self._features is not None:
            found["fid"] = frechet_distance(self._restored, self._clear)
        if self._has_spread:
            found["calibration"] = self._calibrator.result().as_json()
        return found


def load_features(path: Path) -> Features:
    """Inception v3 with the weights in `path`, or the network in a `torch.export` file (.pt2): uint8 [1, 3, H, W] ->
    one vector. FID is defined over Inception v3 of 2015-12-05; any other network gives another metric.

    Load no .pt2 that you do not trust. Raises UsageError, saying where to get the weights, if the file is absent.
    """
    import torch

    from unclouded.evaluation import inception

    network = _exported(path) if path.suffix == ".pt2" and path.is_file() else inception.load(path)

    def features(image: Array) -> Array:
        bands = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
        x = torch.from_numpy(np.rint(np.clip(bands, 0, 1) * 255).astype(np.uint8))[None]
        with torch.inference_mode():
            return np.asarray(network(x).double().flatten().numpy())

    return features


def _exported(path: Path) -> Any:
    import torch

    try:
        return torch.export.load(path).module()
    except Exception as error:  # whatever an unpacker finds in a foreign file
        raise UncloudedError(f"{path} is not a torch.export network ({error}). Save it again.") from error

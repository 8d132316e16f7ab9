"""How much of a pair is under clouds: the mean of a probability per pixel, from a source that the user names."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning

from unclouded.datasets.preparing.affine_maps import scaled
from unclouded.datasets.preparing.grid import Grid, Pixels, on_grid
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.failures import reading
from unclouded.scenes.masks import marked_by
from unclouded.scenes.tiles import Window

SOURCES = ("mask", "cloud-net", "brightening")
SHIPPED = Path(__file__).with_name("cloudnet.safetensors")  # docs/decisions.md says how it was trained

Float32 = NDArray[np.float32]
# (window, cloudy, clear) -> probability [h, w] in [0, 1], NaN where it is not known
Probability = Callable[[Window, Pixels, Pixels], Float32]


@contextmanager
def mask_probability(path: Path, cloudy: Any, size: tuple[int, int], grid: Grid, values: str | None) -> Iterator[Any]:
    """Probability from a mask file, moved as the cloudy scene is (`grid` is the moved one).

    Floating-point masks hold probabilities in [0, 1]; others mark clouds by `values` (see `marked_by`). A mask without
    coordinate system must have the cloudy file's `size` (height, width).
    """
    rule = marked_by(values)
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        file = rasterio.open(path)
    with file:
        source: dict[str, Any] = {}
        if file.crs is None:
            if (file.height, file.width) != size:
                raise UncloudedError(
                    f"{path} has no coordinate system and {file.width} × {file.height} pixels, its scene "
                    f"{size[1]} × {size[0]}. Give a mask on the scene's grid, or georeference it."
                )
            transform = scaled(cloudy.transform, cloudy.width / size[1], cloudy.height / size[0])
            source = {"src_crs": cloudy.crs, "src_transform": transform}
        graded = values is None and file.dtypes[0].startswith("float")
        with on_grid(file, grid, Resampling.bilinear if graded else Resampling.nearest, **source) as warped:

            def probability(window: Window, cloudy: Pixels, clear: Pixels) -> Float32:
                mask, known = warped.read(window)
                if graded and known.any() and not 0 <= mask[0][known].min() <= mask[0][known].max() <= 1:
                    raise UncloudedError(
                        f"{path} holds values from {mask[0][known].min():g} to {mask[0][known].max():g}, and "
                        "probabilities lie in 0 to 1. Rescale it, or give --mask-values."
                    )
                share = mask[0] if graded else rule(mask[0])
                return np.where(known, share, np.nan).astype(np.float32)

            yield probability


def cloud_net(path: Path, bands: tuple[str, ...], low: float, high: float) -> Probability:
    """Cloud-Net's probability of cloud in the cloudy scene, `low` being black and `high` white to it.

    It sees red, green and blue, or the one band there is. Raises UsageError for scenes without these.
    """
    import torch

    from unclouded.models.cloudnet import load_cloud_net

    wanted = bands * 3 if len(bands) == 1 else ("red", "green", "blue")
    if not set(wanted) <= set(bands):
        raise UsageError(
            f"Cloud-Net sees red, green and blue, and the scenes have {', '.join(bands)}. "
            "Name the bands in a YAML job, or give masks."
        )
    network = load_cloud_net(path)
    chosen = [bands.index(name) for name in wanted]

    def probability(window: Window, cloudy: Pixels, clear: Pixels) -> Float32:
        image = np.clip((cloudy.dn[chosen].astype(np.float32) - low) / (high - low), 0, 1)
        with torch.inference_mode():
            found: Float32 = network(torch.from_numpy(image)[None])[0, 0].numpy()
        return found

    return probability


def brightening(low: float, high: float) -> Probability:
    """The opacity of a white veil that turns the clear scene into the cloudy one, mean of the bands.

    cloudy = (1 − o) clear + o white, with white = `high`. An estimate for want of a mask: it also counts what became
    brighter on the ground, and no shadows.
    """

    def probability(window: Window, cloudy: Pixels, clear: Pixels) -> Float32:
        top, bottom = (np.clip(p.dn.astype(np.float32), low, high) for p in (cloudy, clear))
        room = np.maximum(high - bottom, 1e-3 * (high - low))
        opacity: Float32 = np.clip((top - bottom) / room, 0, 1).mean(axis=0)
        return opacity

    return probability

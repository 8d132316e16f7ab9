"""An image in memory through the tiles of a scene: what a Restorer does with one of any size."""

import numpy as np
from rasterio.enums import ColorInterp

from unclouded.errors import UsageError
from unclouded.sampling import Sampling
from unclouded.scene_options import OVERLAP, SceneOptions
from unclouded.scene_plan import batch_size, chosen_sampling, tile_grid
from unclouded.scenes.bands import DnRange
from unclouded.scenes.compose import compose
from unclouded.scenes.pictures import ArrayScene, array_info
from unclouded.scenes.raster import Array, Mask
from unclouded.strips import Job, RestorerLike, restored_rows

UNSCALED = 10  # floats of more than this are in another unit: clouds reach 3 in reflectance over the model's white


def restore_array(
    image: Array, restorer: RestorerLike, *, sampling: Sampling | None = None, tile: int | None = None
) -> Array:
    """Restore an image [C, H, W] in memory, C the model's bands in order; the same dtype comes back.

    Integers are sensor numbers, by the default range of their dtype (see scenes/bands.py); floats are in [0, 1].
    What is NaN or masked (in any band of a numpy.ma array, such as rasterio's `read(masked=True)`) is no data, and
    stays as it is.

    Raises UsageError for an empty image, for numbers of another kind, and for floats that are mostly above 10.
    """
    if not image.size:
        raise UsageError(f"An image of shape {image.shape} has no pixels. Give one of at least 1 × 1.")
    if image.dtype.kind not in "uif":
        raise UsageError(f"An image of {image.dtype} has no brightness. Give integers or floats.")
    if isinstance(image, np.ma.MaskedArray):
        valid: Mask = np.asarray(~np.ma.getmaskarray(image).any(axis=0))
        clear = _restored(image.data, valid, restorer, sampling, tile)
        return np.ma.MaskedArray(clear, image.mask, fill_value=image.fill_value)
    return _restored(image, None, restorer, sampling, tile)


def _restored(
    image: Array, valid: Mask | None, restorer: RestorerLike, sampling: Sampling | None, tile: int | None
) -> Array:
    data = image if valid is None else image[:, valid]
    if data.dtype.kind == "f" and 2 * np.count_nonzero(data > UNSCALED) > data.size:
        raise UsageError(
            f"Most numbers of the image are above {UNSCALED}, and floats are 0 for black and 1 for white. "
            "Scale them, or give integers."
        )
    bands = restorer.bands
    dn_range = DnRange(low=(0.0,) * len(bands), high=(1.0,) * len(bands))
    if image.dtype.kind in "ui":
        dn_range = bands.dn_range(image.dtype)
    info = array_info("the image", "raster", image, (ColorInterp.undefined,) * len(bands))
    overlap = OVERLAP if tile is None else tile // 4
    grid = tile_grid(info, sampling or chosen_sampling(restorer, SceneOptions()), tile, overlap)
    job = Job(
        scene=ArrayScene(image, info, valid),
        restorer=restorer,
        sampling=sampling,
        bands=tuple(range(1, len(bands) + 1)),
        dn_range=dn_range,
        fill=np.full(len(bands), 0.5, np.float32),
        grid=grid,
        batch_size=batch_size(restorer, grid),
    )
    rows = [compose(r.cloudy, r.layers["clear"], job.bands, dn_range, info.nodata) for r in restored_rows(job)]
    return np.concatenate(rows, axis=1)

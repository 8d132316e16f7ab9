"""GeoTIFFs as a user's own data have them."""

from pathlib import Path

import numpy as np
import rasterio


def write_geotiff(path: Path, image: np.ndarray, names: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = image.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=image.dtype, crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as file:  # fmt: skip
        file.write(image)
        if names:
            file.descriptions = names

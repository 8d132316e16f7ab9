"""What a restored scene keeps of its source: grid, tags, control points, nodata and masks, as GeoTIFF and as COG."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from restorer_double import DTYPES, Double, local, numbers
from scene_files import read, write_tif
from unclouded.whole_scene import restore_scene

GRID = ("crs", "transform", "shape")
BANDS = ("dtypes", "nodata", "descriptions", "colorinterp", "scales", "offsets", "units")
LAYOUT = ("block_shapes", "compression", "interleaving")


def test_everything_but_the_pixels_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    pixels = numbers((4, 40, 30), "int16")
    rotated = Affine(9.4, 3.4, 300000, 3.4, -9.4, 5000000)
    profile = {"transform": rotated, "nodata": -999, "tiled": True, "blockxsize": 16, "blockysize": 16}
    write_tif(source, pixels, **profile, compress="lzw", interleave="band")
    with rasterio.open(source, "r+") as file:
        file.descriptions = ("blue", "green", "red", "nir")
        file.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined)
        file.scales, file.offsets = (1e-4,) * 4, (0.01,) * 4
        file.set_band_unit(2, "reflectance")
        file.update_tags(SENSOR="MSI", AREA_OR_POINT="Point")
        file.update_tags(ns="ACQUISITION", DATE="2024-05-01")
        file.update_tags(4, STATISTICS_MEAN="7", WAVELENGTH="842")
        file.update_tags(1, STATISTICS_MEAN="8", WAVELENGTH="490")
    report = restore_scene(source, tmp_path / "out.tif", model=Double(local), tile=16, overlap=4)
    assert report.bands == {"red": 3, "green": 2, "blue": 1}
    assert report.passed_through == (4,)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        for name in GRID + BANDS + LAYOUT:
            assert getattr(a, name) == getattr(b, name), name
        assert a.tags().items() <= b.tags().items()
        assert b.tags(ns="ACQUISITION") == {"DATE": "2024-05-01"}
        assert b.tags(4) == {"STATISTICS_MEAN": "7", "WAVELENGTH": "842"}
        assert b.tags(1) == {"WAVELENGTH": "490"}
        np.testing.assert_array_equal(b.read(4), pixels[3])
        assert (b.read(1) != pixels[0]).any()


def test_control_points_and_rpcs_pass_through(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    points = [GroundControlPoint(r, c, 10 + c / 10, 50 - r / 10) for r, c in [(0, 0), (0, 40), (40, 0), (40, 40)]]
    write_tif(source, numbers((3, 40, 40), "uint8"), crs="EPSG:4326", transform=None, gcps=points)
    restore_scene(source, tmp_path / "out.tif", model=Double(local))
    with rasterio.open(tmp_path / "out.tif") as file:
        out, crs = file.gcps
        assert crs.to_epsg() == 4326
        assert [(p.row, p.col, p.x, p.y) for p in out] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nodata_stays_and_valid_pixels_never_become_it(tmp_path: Path, dtype: str) -> None:
    pixels = numbers((3, 50, 40), dtype)
    pixels[:, 10:20, 5:30] = 7
    pixels[1, 30, 30] = 7  # in one band only
    source = write_tif(tmp_path / "in.tif", pixels, nodata=7)
    report = restore_scene(source, tmp_path / "out.tif", model=Double(lambda y: torch.full_like(y, 0.5)),
                           value_range=(0, 14), tile=16, overlap=4)  # fmt: skip
    out = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(out == 7, pixels == 7)
    assert report.pixels["nodata"] == (pixels == 7).all(axis=0).sum()


def test_nan_and_infinity_are_nodata(tmp_path: Path) -> None:
    pixels = numbers((3, 30, 40), "float32")
    pixels[:, :5] = np.nan
    pixels[0, 10, 10], pixels[2, 11, 11] = np.inf, -np.inf
    source = write_tif(tmp_path / "in.tif", pixels)
    restore_scene(source, tmp_path / "out.tif", model=Double(lambda y: torch.full_like(y, 0.5)))
    out = read(tmp_path / "out.tif")
    bad = ~np.isfinite(pixels)
    np.testing.assert_array_equal(out[bad], pixels[bad])
    assert np.isfinite(out[~bad]).all()
    assert (out[~bad] != pixels[~bad]).all()


def test_an_internal_mask_is_kept_and_respected(tmp_path: Path) -> None:
    pixels = numbers((3, 40, 50), "uint8")
    where = np.ones((40, 50), bool)
    where[:, 30:] = False
    source = tmp_path / "in.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tif(source, pixels)
        with rasterio.open(source, "r+") as file:
            file.write_mask(where)
    report = restore_scene(source, tmp_path / "out.tif", model=Double(local), tile=16, overlap=4)
    out = read(tmp_path / "out.tif")
    np.testing.assert_array_equal(out[:, :, 30:], pixels[:, :, 30:])
    assert report.pixels["nodata"] == 40 * 20
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.dataset_mask() > 0, where)


@pytest.mark.parametrize(("side", "levels"), [(700, 1), (90, 0)])
def test_a_cloud_optimised_geotiff_is_valid(tmp_path: Path, side: int, levels: int) -> None:
    from rio_cogeo.cogeo import cog_validate

    pixels = numbers((4, side, side), "uint16")
    source = write_tif(tmp_path / "in.tif", pixels, nodata=0)
    with rasterio.open(source, "r+") as file:
        file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        file.descriptions = ("red", "green", "blue", "nir")
        file.scales, file.offsets = (1e-4,) * 4, (0.0,) * 4
    restore_scene(source, tmp_path / "o.tif", model=Double(), cog=True, mask_out=tmp_path / "m.tif")
    for name in "om":
        assert cog_validate(tmp_path / f"{name}.tif", quiet=True) == (True, [], [])
    with rasterio.open(source) as a, rasterio.open(tmp_path / "o.tif") as b:
        for name in GRID + BANDS:
            assert getattr(a, name) == getattr(b, name), name
        np.testing.assert_array_equal(b.read(), pixels)
        assert len(b.overviews(1)) == levels
        assert b.tags()["UNCLOUDED_MODEL"] == "Double"

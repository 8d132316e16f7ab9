"""What a product carries besides its pixels goes through: RPCs, alpha, tags of any domain, COG or not, by any name."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import Affine

from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 4.6e6)}


class Negative:
    """Inverts; looks at the pixel alone. Knows what it was shown."""

    bands = BandSet.display("red", "green", "blue")

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        self.seen.append(y)
        return SimpleNamespace(clear=1 - y)


def scene(path: Path, bands: int = 3, size: tuple[int, int] = (40, 50), **profile: Any) -> Path:
    pixels = np.random.default_rng(0).integers(1, 255, (bands, *size)).astype(np.uint8)
    options = {**PLACE, "photometric": "RGB", **profile}
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=size[0], width=size[1], dtype="uint8", **options
    ) as file:
        file.write(pixels)
    return path


def rpc() -> RPC:
    terms = np.random.default_rng(1).normal(size=(4, 20)).tolist()
    return RPC(
        height_off=300.0, height_scale=500.0, lat_off=45.5, lat_scale=0.1, line_off=20.0, line_scale=20.0,
        line_num_coeff=terms[0], line_den_coeff=terms[1], long_off=12.25, long_scale=0.2, samp_off=25.0,
        samp_scale=25.0, samp_num_coeff=terms[2], samp_den_coeff=terms[3], err_bias=0.5, err_rand=0.25,
    )  # fmt: skip


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_rpcs_pass_through(tmp_path: Path, cog: bool) -> None:
    source = scene(tmp_path / "in.tif", crs=None, transform=None, rpcs=rpc())
    with rasterio.open(source) as file:
        given = file.rpcs
    assert given.line_off == rpc().line_off
    restore_scene(source, tmp_path / "out.tif", model=Negative(), cog=cog, mask_out=tmp_path / "m.tif")
    for name in ("out.tif", "m.tif"):
        with rasterio.open(tmp_path / name) as file:
            assert file.rpcs == given


@pytest.mark.parametrize("cog", [False, True])
def test_an_alpha_band_says_where_there_is_data_and_is_kept(tmp_path: Path, cog: bool) -> None:
    source, model = scene(tmp_path / "in.tif", 4, alpha="YES"), Negative()
    with rasterio.open(source, "r+") as file:
        alpha = np.where(np.arange(50) < 20, 255, 0).astype(np.uint8) * np.ones((40, 1), np.uint8)
        alpha[:, 10] = 77  # partly transparent is data
        file.write(alpha, 4)
        before = file.read()
    report = restore_scene(source, tmp_path / "out.tif", model=model, tile=16, overlap=4, cog=cog)
    assert report.bands == {"red": 1, "green": 2, "blue": 3}
    assert report.passed_through == (4,)
    assert report.pixels == {"input": 0, "blended": 0, "synthesised": 40 * 20, "nodata": 40 * 30}
    with rasterio.open(tmp_path / "out.tif") as file:
        after = file.read()
        assert file.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    np.testing.assert_array_equal(after[3], alpha)
    np.testing.assert_array_equal(after[:3, :, :20], 255 - before[:3, :, :20])
    np.testing.assert_array_equal(after[:3, :, 20:], before[:3, :, 20:])
    shown = torch.cat([y.flatten() for y in model.seen])
    hidden = set((before[:3, :, 20:] / np.float32(255)).ravel()) - set((before[:3, :, :20] / np.float32(255)).ravel())
    assert not hidden & set(shown.tolist())  # what is under the alpha is not shown to the model


@pytest.mark.parametrize("cog", [False, True])
def test_tags_of_every_domain_are_kept(tmp_path: Path, cog: bool) -> None:
    source = scene(tmp_path / "in.tif")
    with rasterio.open(source, "r+") as file:
        file.update_tags(SENSOR="MSI")
        file.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2024-05-01 10:30")
        file.update_tags(ns="MY_COMPANY", ORDER="17")
        file.update_tags(2, WAVELENGTH="560")
    restore_scene(source, tmp_path / "out.tif", model=Negative(), cog=cog)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.tags()["SENSOR"] == "MSI"
        assert file.tags(ns="IMAGERY") == {"ACQUISITIONDATETIME": "2024-05-01 10:30"}
        assert file.tags(ns="MY_COMPANY") == {"ORDER": "17"}
        assert file.tags(2)["WAVELENGTH"] == "560"
        assert file.tags()["UNCLOUDED_MODEL"] == "Negative"


@pytest.mark.parametrize("cog", [False, True])
def test_statistics_are_of_the_pixels_that_are_there(tmp_path: Path, cog: bool) -> None:
    """Those of restored bands are dropped, or are the new pixels'; those of bands that pass through are kept."""
    source = scene(tmp_path / "in.tif", 4, photometric="MINISBLACK")
    with rasterio.open(source, "r+") as file:
        for band in file.indexes:
            mean = str(float(file.read(band).mean()))
            file.update_tags(band, STATISTICS_MEAN=mean, STATISTICS_MAXIMUM="254", STATISTICS_VALID_PERCENT="100")
    restore_scene(source, tmp_path / "out.tif", model=Negative(), bands=[1, 2, 3], cog=cog, value_range=(0, 100))
    with rasterio.open(source) as before, rasterio.open(tmp_path / "out.tif") as after:
        kept = after.tags(4)
        assert float(kept["STATISTICS_MEAN"]) == pytest.approx(float(before.tags(4)["STATISTICS_MEAN"]))
        for band in (1, 2, 3):
            assert abs(after.read(band).mean() - before.read(band).mean()) > 10
            told = after.tags(band).get("STATISTICS_MEAN")
            assert told is None or float(told) == pytest.approx(float(after.read(band).mean()), abs=0.01)


def test_statistics_in_a_sidecar_file_do_not_follow(tmp_path: Path) -> None:
    source = scene(tmp_path / "in.tif")
    stale = '<MDI key="STATISTICS_MEAN">999</MDI>'
    bands = "".join(f'<PAMRasterBand band="{b}"><Metadata>{stale}</Metadata></PAMRasterBand>' for b in (1, 2, 3))
    (tmp_path / "in.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    with rasterio.open(source) as file:
        assert file.tags(1) == {"STATISTICS_MEAN": "999"}
    restore_scene(source, tmp_path / "out.tif", model=Negative())
    with rasterio.open(tmp_path / "out.tif") as file:
        assert "STATISTICS_MEAN" not in file.tags(1)


def test_an_old_sidecar_of_the_output_does_not_speak_for_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    target.write_bytes(b"old")
    mean = '<MDI key="STATISTICS_MEAN">999</MDI>'
    target.with_name("out.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><Metadata>{mean}</Metadata></PAMRasterBand></PAMDataset>'
    )
    restore_scene(scene(tmp_path / "in.tif"), target, model=Negative(), overwrite=True)
    with rasterio.open(target) as file:
        assert "STATISTICS_MEAN" not in file.tags(1)


def test_virtual_names_keep_grid_and_pixels(tmp_path: Path) -> None:
    source = scene(tmp_path / "in.tif")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(source, "folder/scene.tif")
    rasterio.shutil.copy(source, tmp_path / "in.vrt", driver="VRT")
    with rasterio.open(source) as file:
        expected, grid = 255 - file.read(), (file.crs, file.transform)
    names = [f"/vsizip/{tmp_path}/in.zip/folder/scene.tif", str(tmp_path / "in.vrt")]
    for number, name in enumerate(names):
        restore_scene(name, tmp_path / f"{number}.tif", model=Negative(), tile=32, overlap=8)
        with rasterio.open(tmp_path / f"{number}.tif") as file:
            np.testing.assert_array_equal(file.read(), expected)
            assert (file.crs, file.transform) == grid
            assert file.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

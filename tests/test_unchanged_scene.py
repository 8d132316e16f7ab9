"""A scene whose mask marks nothing: its file is copied, and told what made it; or written anew where that cannot be."""

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from restorer_double import Double, local, numbers
from scene_files import read, write_tif
from unclouded.errors import UncloudedError
from unclouded.scenes import raster
from unclouded.scenes.failures import NoRoomError
from unclouded.scenes.probe import sample_windows
from unclouded.whole_scene import restore_scene

SIDE = 300
OPTIONS: dict[str, Any] = {"model": Double(local), "tile": 64, "overlap": 16}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Tiled, with an overview, which only a copy of the file keeps."""
    path = write_tif(
        tmp_path / "in.tif", numbers((3, SIDE, SIDE), "uint16"), nodata=0, tiled=True, blockxsize=64, blockysize=64,
        compress="deflate",
    )  # fmt: skip
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.nearest)
        file.update_tags(SENSOR="MSI")
        file.update_tags(1, STATISTICS_MEAN="8")
    return path


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    return write_tif(tmp_path / "mask.tif", np.zeros((1, SIDE, SIDE), np.uint8))


def overviews(path: Path) -> list[int]:
    with rasterio.open(path) as file:
        return list(file.overviews(1))


def test_it_is_a_copy_that_says_what_made_it(tmp_path: Path, source: Path, nothing: Path) -> None:
    before = source.read_bytes()
    report = restore_scene(source, tmp_path / "out.tif", mask=nothing, **OPTIONS)
    assert report.pixels["input"] == SIDE**2 - report.pixels["nodata"]
    assert source.read_bytes() == before
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert a.profile == b.profile
        assert b.overviews(1) == [2]
        assert b.tags(1) == {"STATISTICS_MEAN": "8"}  # still true
        assert b.tags()["UNCLOUDED_INPUT"] == "in.tif"
        assert a.tags().items() <= b.tags().items()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "mask.tif", "out.tif"]


def test_where_the_mask_marks_a_pixel_it_is_written_anew(tmp_path: Path, source: Path) -> None:
    marked = np.zeros((1, SIDE, SIDE), np.uint8)
    marked[0, 290, 290] = 1
    mask = write_tif(tmp_path / "mask.tif", marked)
    report = restore_scene(source, tmp_path / "out.tif", mask=mask, **OPTIONS)
    assert report.pixels["synthesised"] == 1
    assert overviews(tmp_path / "out.tif") == []
    assert (read(tmp_path / "out.tif") != read(source)).any()


def test_what_lies_beside_the_file_comes_along(tmp_path: Path, source: Path, nothing: Path) -> None:
    (tmp_path / "in.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='2'><Description>green</Description></PAMRasterBand></PAMDataset>"
    )
    restore_scene(source, tmp_path / "out.tif", mask=nothing, **OPTIONS)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.descriptions == (None, "green", None)
        np.testing.assert_array_equal(file.read(), read(source))


def test_a_file_without_room_for_tags_is_written_anew(
    tmp_path: Path, source: Path, nothing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "CLASSIC_TIFF_BYTES", source.stat().st_size - 1)
    restore_scene(source, tmp_path / "out.tif", mask=nothing, **OPTIONS)
    assert overviews(tmp_path / "out.tif") == []
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), read(source))


@pytest.mark.parametrize("asked", [True, False])
def test_cloud_optimised_files_stay_so_only_if_written_anew(
    tmp_path: Path, source: Path, nothing: Path, asked: bool
) -> None:
    from rio_cogeo.cogeo import cog_validate

    if not asked:
        rasterio.shutil.copy(source, tmp_path / "cog.tif", driver="COG")
        source = tmp_path / "cog.tif"
    restore_scene(source, tmp_path / "out.tif", mask=nothing, cog=asked, **OPTIONS)
    assert cog_validate(tmp_path / "out.tif", quiet=True)[0]
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), read(source))


def test_a_damaged_file_is_not_copied(tmp_path: Path) -> None:
    """Though the first look does not meet the damage."""
    side, block = 1200, 64
    pixels = numbers((3, side, side), "uint8")
    blocks = {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate"}
    source = write_tif(tmp_path / "in.tif", pixels, **blocks)
    mask = write_tif(tmp_path / "mask.tif", np.zeros((1, side, side), np.uint8))
    with rasterio.open(source) as file:
        seen = np.zeros((side, side), bool)
        for window in sample_windows(raster.describe(file, "in.tif")):
            seen[window.row : window.bottom, window.col : window.right] = True
        row, col = np.argwhere(~seen[::block, ::block])[0]
        offset = int(file.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1))
    whole = source.read_bytes()
    source.write_bytes(whole[:offset] + bytes(64) + whole[offset + 64 :])
    with pytest.raises(UncloudedError, match="damaged"):
        restore_scene(source, tmp_path / "out.tif", mask=mask, **OPTIONS)
    assert not (tmp_path / "out.tif").exists()


def test_a_full_disk_is_noticed(tmp_path: Path, source: Path, nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(NoRoomError, match=r"out\.tif|scene\.tif"):
        restore_scene(source, tmp_path / "out.tif", mask=nothing, **OPTIONS)
    assert not (tmp_path / "out.tif").exists()

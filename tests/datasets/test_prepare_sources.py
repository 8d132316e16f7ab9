"""What scenes may be to be prepared: of other grids, of floats, several of a place, with panchromatic bands."""

import csv
import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine

from place_scenes import OPTIONS, SHIFT, SIZE, TILE, job, write
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.prepare import PrepareOptions, prepare
from unclouded.errors import UsageError


def test_other_grids_come_to_the_clear_one(tmp_path, scenes):
    """A cloudy scene in another coordinate system and of other pixels is found where it was."""
    from rasterio.vrt import WarpedVRT

    for name in "ab":
        for kind in ("cloudy", "mask"):
            with rasterio.open(scenes / f"{name}_{kind}.tif") as file, WarpedVRT(file, crs="EPSG:4326") as vrt:
                place = {"crs": vrt.crs, "transform": vrt.transform}
                write(tmp_path / f"{name}_{kind}.tif", vrt.read(), nodata=0 if kind == "cloudy" else None, **place)
        shutil.copy(scenes / f"{name}_clear.tif", tmp_path)
    done = list(prepare(job(tmp_path, tmp_path, "ab"), tmp_path / "out", OPTIONS))
    for place in done:
        assert (place.record["match"]["rows"], place.record["match"]["cols"]) == pytest.approx(SHIFT, abs=0.15)


def test_yaml_job_with_floats_graded_mask_and_several_scenes_of_a_place(tmp_path, scenes):
    """Reflectance needs a stretch to become PNG; a float mask is a probability; one place stays in one part."""
    entries = []
    for name in "ab":
        for kind in ("cloudy", "clear"):
            with rasterio.open(scenes / f"{name}_{kind}.tif") as file:
                dn = file.read([3, 2, 1, 4]) / np.float32(255)
                write(tmp_path / f"{name}_{kind}.tif", dn, transform=file.transform)
        files = f"cloudy: {name}_cloudy.tif, clear: {name}_clear.tif, mask: {name}_mask.tif"
        entries += [f"  - {{place: {name}, name: {name}{i}, {files}}}" for i in (1, 2)]
        write(tmp_path / f"{name}_mask.tif", np.full((1, SIZE, SIZE), 0.25, np.float32), crs=None)
    path = tmp_path / "job.yaml"
    path.write_text("bands: [blue, green, red, nir]\nplaces:\n" + "\n".join(entries) + "\n")
    with pytest.raises(UsageError, match="PNG tiles are 8 bit"):
        list(prepare(path, tmp_path / "out", OPTIONS))
    list(prepare(path, tmp_path / "out", PrepareOptions(tile=TILE, stretch=(0, 1))))
    pairs = read_pairs(tmp_path / "out")
    assert {len({p.part for p in pairs if p.stem[0] == place}) for place in "ab"} == {1}
    with (tmp_path / "out" / "pairs.csv").open() as file:
        assert {float(row["coverage"]) for row in csv.DictReader(file)} == {0.25}
    with rasterio.open(scenes / "a_clear.tif") as file:
        tile = next(p for p in pairs if p.stem == "a1_0_0").read_clear()
        np.testing.assert_array_equal(tile, file.read()[:, :TILE, 2 : 2 + TILE])
    list(prepare(path, tmp_path / "out", PrepareOptions(tile=TILE, stretch=(0, 1), format="tif")))
    assert not (tmp_path / "out" / "nir" / "benchmark").exists()
    tile = read_pairs(tmp_path / "out")[0].clear
    with rasterio.open(tile) as file:
        assert (file.dtypes[0], file.descriptions) == ("float32", ("blue", "green", "red", "nir"))


def test_spacenet6_with_panchromatic_bands(tmp_path, data_dir):
    """Real scenes: the cloudy one is the clear one under a cloud, said to lie 1.15 m east and 0.6 m south."""
    kinds = {"": "spacenet6_ms_1m.tif", "_pan": "spacenet6_pan_0.5m.tif"}
    found = {kind: data_dir / "scenes" / name for kind, name in kinds.items()}
    if not all(path.is_file() for path in found.values()):
        pytest.skip(f"{' and '.join(kinds.values())} are not in {data_dir / 'scenes'}")
    row = {"place": "rotterdam", "mask": str(tmp_path / "mask.tif")}
    for kind, path in found.items():
        with rasterio.open(path) as file:
            dn, t, crs = file.read(), file.transform, file.crs
        dn[:, len(dn[0]) // 2 :] = dn[:, len(dn[0]) // 2 :] // 2 + 500  # the lower half
        moved = Affine(t.a, 0, t.c + 1.15, 0, t.e, t.f - 0.6)
        row |= {f"cloudy{kind}": str(write(tmp_path / f"c{kind}.tif", dn, crs=crs, transform=moved))}
        row |= {f"clear{kind}": str(path)}
        if not kind:
            mask = np.zeros((1, *dn.shape[1:]), np.uint8)
            mask[:, mask.shape[1] // 2 :] = 1
            write(tmp_path / "mask.tif", mask, crs=crs, transform=moved)
    path = tmp_path / "job.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    (done,) = prepare(path, tmp_path / "out", PrepareOptions(stretch=(0, 1000), test_share=0))
    assert (done.record["match"]["rows"], done.record["match"]["cols"]) == pytest.approx((1.2, 2.3), abs=0.1)
    (pair,) = read_pairs(tmp_path / "out")
    assert pair.read_cloudy().shape == (4, 512, 512)
    assert done.record["kept"][0]["coverage"] == pytest.approx((512 - 300) / 512, abs=2 / 512)

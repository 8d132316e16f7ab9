"""The STAC Item: valid by pystac without a network, on the output's grid, with what made it and where it came from."""

import builtins
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

import unclouded
from unclouded.errors import UncloudedError, UsageError
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene

pystac = pytest.importorskip("pystac")
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 4.6e6)}


class Double:
    bands = BandSet.display("red", "green", "blue")

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=1 - y, w=y, spread=y)


def tif(path: Path, tags: dict[str, str] | None = None, **profile: Any) -> Path:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 40, 60)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", count=3, height=40, width=60, dtype="uint8", **profile) as file:
        file.write(pixels)
        file.update_tags(**(tags or {}))
    return path


def run(source: Path, target: Path, **options: Any) -> Any:
    return restore_scene(source, target, model=Double(), sampling=Sampling(steps=3), stac=True, **options)


def test_the_item_is_whole_and_valid_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pystac.extensions.projection import ProjectionExtension

    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("went to the network"))
    source = tif(tmp_path / "raw" / "in.tif", {"ACQUISITION_DATETIME": "2024-05-01T10:30:00Z"}, **PLACE, nodata=0)
    (tmp_path / "made").mkdir()
    target = tmp_path / "made" / "clear.tif"
    layers = {f"{name}_out": tmp_path / "made" / f"{name}.tif" for name in ("mask", "weights")}
    report = run(source, target, cog=True, preview=tmp_path / "made" / "p.png", report=tmp_path / "r.html", **layers)
    assert report.files["stac"] == str(target.with_suffix(".json"))
    assert report.notes == ("Every pixel that has data was synthesised.",)
    item = pystac.Item.from_file(target.with_suffix(".json"))
    assert item.id == "clear"
    assert item.datetime == datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
    with rasterio.open(target) as file:
        np.testing.assert_allclose(item.bbox, transform_bounds(file.crs, "EPSG:4326", *file.bounds), atol=1e-3)
        projection = ProjectionExtension.ext(item)
        assert projection.epsg == file.crs.to_epsg() == 32633
        assert projection.shape == list(file.shape)
        assert projection.transform == list(file.transform)[:6]
    assert set(item.assets) == {"output", "mask", "weights", "preview", "report"}
    for asset in item.assets.values():
        assert Path(asset.get_absolute_href()).is_file(), asset.href
    assert item.assets["output"].media_type == pystac.MediaType.COG
    bands = item.assets["output"].to_dict()["bands"]
    assert [(b["data_type"], b["nodata"]) for b in bands] == [("uint8", 0)] * 3
    assert [b["name"] for b in item.assets["weights"].to_dict()["bands"]] == ["red", "green", "blue"]
    (derived,) = [link for link in item.links if link.rel == "derived_from"]
    assert Path(derived.get_absolute_href()).resolve() == source.resolve()
    said = item.properties
    assert said["processing:software"] == {"unclouded": unclouded.__version__}
    assert (said["unclouded:model"], said["unclouded:steps"], said["unclouded:mask"]) == ("Double", "3", "none")
    assert said["unclouded:pixels"]["synthesised"] == 2400


def test_the_core_of_the_item_follows_its_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("went to the network"))
    pytest.importorskip("jsonschema", reason="pystac validates with jsonschema: pip install 'pystac[validation]'")
    from pystac.validation import validate_dict

    for number, place in enumerate([PLACE, {}]):
        target = tmp_path / f"{number}.tif"
        source = tif(tmp_path / f"in{number}.tif", **place) if place else without_place(tmp_path / "in1.tif")
        run(source, target, mask_out=tmp_path / f"m{number}.tif")
        written = json.loads(target.with_suffix(".json").read_text())
        core = written | {"stac_extensions": []}  # pystac carries the core's schemas; those of extensions are online
        assert validate_dict(core)


def without_place(path: Path) -> Path:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        return tif(path)


def test_a_scene_that_says_neither_place_nor_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    report = run(without_place(tmp_path / "in.tif"), tmp_path / "out.tif")
    assert "The scene does not say when it was taken; the STAC Item has the day of the run." in report.notes
    item = pystac.Item.from_file(tmp_path / "out.json")
    assert (item.geometry, item.bbox) == (None, None)
    assert item.datetime == datetime(1970, 1, 2, tzinfo=UTC)


def test_control_points_give_the_place(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in [(0, 0), (0, 60), (40, 0), (40, 60)]]
    run(tif(tmp_path / "in.tif", crs="EPSG:4326", gcps=points), tmp_path / "out.tif")
    np.testing.assert_allclose(pystac.Item.from_file(tmp_path / "out.json").bbox, [10, 49.6, 10.6, 50], atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"TIFFTAG_DATETIME": "2023:04:05 06:07:08"}, datetime(2023, 4, 5, 6, 7, 8, tzinfo=UTC)),
        ({"DATE_ACQUIRED": "2020-02-03", "TIFFTAG_DATETIME": "2023:04:05 06:07:08"}, datetime(2020, 2, 3, tzinfo=UTC)),
        ({"PRODUCT_START_TIME": "2021-01-01T12:00:00+02:00"}, datetime(2021, 1, 1, 10, tzinfo=UTC)),
    ],
)
def test_the_time_of_the_scene(tmp_path: Path, tags: dict[str, str], expected: datetime) -> None:
    run(tif(tmp_path / "in.tif", tags, **PLACE), tmp_path / "out.tif")
    assert pystac.Item.from_file(tmp_path / "out.json").datetime == expected


def test_an_item_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(UncloudedError, match=r"out\.json exists already"):
        run(tif(tmp_path / "in.tif", **PLACE), tmp_path / "out.tif")
    assert (tmp_path / "out.json").read_text() == "mine"


def test_without_pystac_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] == "pystac":
            raise ImportError(name)
        return real(name, *args, **options)

    source = tif(tmp_path / "in.tif", **PLACE)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"pip install 'unclouded\[stac\]'"):
        run(source, tmp_path / "out.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]

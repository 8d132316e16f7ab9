"""Real products: BOA offsets, Landsat's scale, band names, virtual file systems, what cannot be read."""

import multiprocessing
import zipfile
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.errors import UncloudedError, UsageError
from unclouded.many_scenes import MANIFEST, find_scenes, restore_many
from unclouded.scenes.bands import BandSet
from unclouded.whole_scene import restore_scene

RGB = BandSet.display("red", "green", "blue")


class Recorder:
    """Remembers what it was shown; answers with black."""

    bands = RGB
    seen: torch.Tensor

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        self.seen = y
        return SimpleNamespace(clear=torch.zeros_like(y))


def tif(path: Path, pixels: np.ndarray, **profile: Any) -> Path:
    count, height, width = pixels.shape
    options = {
        "crs": "EPSG:32633",
        "transform": Affine(10, 0, 5e5, 0, -10, 4e6),
        "photometric": "MINISBLACK",
        **profile,
    }
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype, **options
    ) as file:
        file.write(pixels)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read()


@pytest.mark.parametrize(
    ("dtype", "scale", "offset", "options", "dn", "black"),
    [
        ("uint16", 1e-4, -0.1, {}, 1000 + 1779, 1000),  # Sentinel-2 from baseline 04.00, offset in the file
        ("uint16", None, None, {"reflectance": (1e-4, -0.1)}, 1000 + 1779, 1000),  # the same, told by the user
        ("uint16", 2.75e-5, -0.2, {}, 13742, 7273),  # Landsat Collection 2 surface reflectance
        ("int16", None, None, {}, 1779, 0),
        ("int16", -1e-4, 0.0, {}, -1779, 0),  # a negative scale
        ("float32", None, None, {}, 0.1779, 0),
        ("uint16", None, None, {"value_range": (0, 2047)}, 1024, 0),  # 11-bit numbers
    ],
)
def test_scene_numbers_reach_the_model_as_reflectance(
    tmp_path: Path, dtype: str, scale: float, offset: float, options: dict[str, Any], dn: float, black: float
) -> None:
    source, model = tif(tmp_path / "in.tif", np.full((3, 20, 20), dn, dtype)), Recorder()
    if scale is not None:
        with rasterio.open(source, "r+") as file:
            file.scales, file.offsets = (scale,) * 3, (offset,) * 3
    restore_scene(source, tmp_path / "out.tif", model=model, **options)
    np.testing.assert_allclose(model.seen, 0.5, atol=1e-3)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), np.full((3, 20, 20), black, dtype))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B02", "B03", "B04", "B08"), [3, 2, 1]),
        (("blue", "green", "Red", "nir"), [3, 2, 1]),
        (("red", "green", "blue", "alpha-like"), [1, 2, 3]),
    ],
)
def test_bands_are_found_by_name(tmp_path: Path, names: tuple[str, ...], expected: list[int]) -> None:
    source = tif(tmp_path / "in.tif", np.full((4, 20, 20), 1000, np.uint16))
    with rasterio.open(source, "r+") as file:
        file.descriptions = names
    report = restore_scene(source, tmp_path / "out.tif", model=Recorder())
    assert list(report.bands.values()) == expected


def test_two_bands_of_one_name_are_no_choice(tmp_path: Path) -> None:
    source = tif(tmp_path / "in.tif", np.full((4, 20, 20), 1000, np.uint16))
    with rasterio.open(source, "r+") as file:
        file.descriptions = ("red", "red", "green", "blue")
    with pytest.raises(UncloudedError, match=r"1 red, 2 red, 3 green.*--bands"):
        restore_scene(source, tmp_path / "out.tif", model=Recorder())


def test_zip_and_vrt_names(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 20, 30)).astype(np.uint8)
    source = tif(tmp_path / "in.tif", pixels)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(source, "scene.tif")
    rasterio.shutil.copy(source, tmp_path / "in.vrt", driver="VRT")
    for number, name in enumerate([f"/vsizip/{tmp_path}/in.zip/scene.tif", f"zip://{tmp_path}/in.zip!scene.tif",
                                   str(tmp_path / "in.vrt")]):  # fmt: skip
        restore_scene(name, tmp_path / f"{number}.tif", model=Recorder())
        assert (read(tmp_path / f"{number}.tif") == 0).all()


class _Ranges(BaseHTTPRequestHandler):
    """Serves one file, `content`, by ranges, as object stores do."""

    content = b""

    def do_HEAD(self) -> None:
        found = self.path.partition("?")[0] == "/scene.tif"
        self.send_response(200 if found else 404)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/scene.tif":
            return self.do_HEAD()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = self.content[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """In a process of its own: rasterio holds the interpreter while it waits for an answer."""
    pixels = np.random.default_rng(0).integers(1, 255, (3, 300, 200)).astype(np.uint8)
    _Ranges.content = tif(tmp_path / "in.tif", pixels, tiled=True, blockxsize=64, blockysize=64).read_bytes()
    with HTTPServer(("127.0.0.1", 0), _Ranges) as listening:
        serving = multiprocessing.get_context("fork").Process(target=listening.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        serving.kill()
        serving.join()


def test_a_scene_is_read_from_the_web(tmp_path: Path, server: str) -> None:
    for number, name in enumerate([f"/vsicurl/{server}/scene.tif", f"{server}/scene.tif"]):
        restore_scene(name, tmp_path / f"{number}.tif", model=Recorder())
        assert (read(tmp_path / f"{number}.tif") == 0).all()
    with pytest.raises(UncloudedError, match=r"absent\.tif"):
        restore_scene(f"/vsicurl/{server}/absent.tif", tmp_path / "none.tif", model=Recorder())
    assert not (tmp_path / "none.tif").exists()


def test_a_signature_is_used_and_not_written_down(tmp_path: Path, server: str) -> None:
    asked = f"{server}/scene.tif?se=2026&sig=SECRET%3D"
    assert find_scenes(asked) is None
    result = tmp_path / "out.tif"
    restore_scene(asked, result, model=Recorder(), stac=True, report=tmp_path / "report.html")
    with rasterio.open(result) as file:
        assert file.tags()["UNCLOUDED_INPUT"] == "scene.tif"
    for path in tmp_path.iterdir():
        assert b"SECRET" not in path.read_bytes(), path
    (tmp_path / "list.txt").write_text(f"{asked}\nin.tif\n")
    scenes = find_scenes(str(tmp_path / "list.txt"))
    assert scenes == [asked, str(tmp_path / "in.tif")]
    outcomes = list(restore_many(scenes, tmp_path / "many", lambda files, _: restore_one(files.scene, files.output)))
    assert [(outcome.status, Path(outcome.output).name) for outcome in outcomes] == [
        ("done", "scene.tif"),
        ("done", "in.tif"),
    ]
    assert "SECRET" not in (tmp_path / "many" / MANIFEST).read_text()


def restore_one(scene: str, output: Path) -> None:
    restore_scene(scene, output, model=Recorder())


@pytest.mark.parametrize("reflectance", [(0.0, 1.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_scale_that_says_nothing(tmp_path: Path, reflectance: tuple[float, float]) -> None:
    source = tif(tmp_path / "in.tif", np.full((3, 20, 20), 1000, np.uint16))
    with pytest.raises(UsageError, match="--reflectance"):
        restore_scene(source, tmp_path / "out.tif", model=Recorder(), reflectance=reflectance)


def test_types_that_cannot_be_mixed(tmp_path: Path) -> None:
    for number, dtype in enumerate(["uint8", "uint16", "uint8"]):
        tif(tmp_path / f"{number}.tif", np.ones((1, 5, 5), dtype))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n + 1}"><SimpleSource><SourceFilename relativeToVRT="1">{n}.tif'
        f"</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, kind in enumerate(["Byte", "UInt16", "Byte"])
    )
    (tmp_path / "in.vrt").write_text(f'<VRTDataset rasterXSize="5" rasterYSize="5">{bands}</VRTDataset>')
    with pytest.raises(UncloudedError, match="mixes the types uint16, uint8"):
        restore_scene(tmp_path / "in.vrt", tmp_path / "out.tif", model=Recorder())


def test_a_nodata_outside_the_type_is_no_nodata(tmp_path: Path) -> None:
    tif(tmp_path / "in.tif", np.full((3, 5, 5), 100, np.uint8))
    rasterio.shutil.copy(tmp_path / "in.tif", tmp_path / "in.vrt", driver="VRT")
    text = (tmp_path / "in.vrt").read_text().replace("<ColorInterp>", "<NoDataValue>-9999</NoDataValue><ColorInterp>")
    (tmp_path / "in.vrt").write_text(text)
    restore_scene(tmp_path / "in.vrt", tmp_path / "out.tif", model=Recorder())
    assert (read(tmp_path / "out.tif") == 0).all()

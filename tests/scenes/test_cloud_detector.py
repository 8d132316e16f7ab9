"""s2cloudless as `--mask auto`: when it is asked, what it is shown, and that windows do not show.

The detector is a double of s2cloudless' documented interface; one test runs the real one where it is installed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import Affine

from unclouded.scenes.bands import BandSet
from unclouded.scenes.cloud_detector import L1C, CloudMask, l1c_bands, load_detector
from unclouded.scenes.opening import open_scene
from unclouded.scenes.tiles import Window
from unclouded.whole_scene import restore_scene

NAMES = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


class Bright:
    """A detector that calls bright B1 cloud."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.seen: list[np.ndarray] = []

    def get_cloud_probability_maps(self, data: np.ndarray) -> np.ndarray:
        assert data.shape[0] == 1
        assert data.shape[-1] == 13
        self.seen.append(data)
        return (data[..., 0] > 0.5).astype(np.float32)


class Black:
    """Restores everything to black; RGB are bands 4, 3, 2."""

    bands = BandSet.reflectance("red", "green", "blue")

    def restore(self, y: torch.Tensor, origins: Sequence[tuple[int, int]], sampling: object = None) -> Any:
        return SimpleNamespace(clear=torch.zeros_like(y))


def scene(path: Path, names: Sequence[str] | None = NAMES, bands: int = 13, dtype: str = "uint16") -> Path:
    """Dark ground with a bright square of 40 × 40 pixels in every band."""
    pixels = np.random.default_rng(0).integers(500, 900, (bands, 160, 180)).astype(dtype)
    pixels[:, 60:100, 70:110] = 8000
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 4e6), "photometric": "MINISBLACK"}
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=160, width=180, dtype=dtype, nodata=0, **place
    ) as file:
        file.write(pixels)
        if names:
            file.descriptions = names
    return path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Bright]:
    made: list[Bright] = []
    module = ModuleType("s2cloudless")
    module.S2PixelCloudDetector = lambda **options: made.append(Bright(**options)) or made[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "s2cloudless", module)
    return made


def test_clouds_are_found_before_and_the_rest_keeps_its_bits(tmp_path: Path, installed: list[Bright]) -> None:
    source, target = scene(tmp_path / "in.tif"), tmp_path / "out.tif"
    report = restore_scene(source, target, model=Black(), mask="auto", mask_out=tmp_path / "m.tif", tile=64, overlap=16)
    assert report.mask == "auto (s2cloudless)"
    assert (installed[0].options["all_bands"], installed[0].options["threshold"]) == (True, 0.4)
    with rasterio.open(source) as a, rasterio.open(target) as b, rasterio.open(tmp_path / "m.tif") as m:
        before, after, made = a.read(), b.read(), m.read(1)
        assert b.tags()["UNCLOUDED_MASK"] == "auto (s2cloudless)"
    assert (made[70:90, 80:100] == 2).all()
    assert (made[:10] == 0).all()
    np.testing.assert_array_equal(after[:, made == 0], before[:, made == 0])
    assert (after[[3, 2, 1]][:, made == 2] == 1).all()  # black, but not the nodata 0
    np.testing.assert_array_equal(after[4:], before[4:])


def test_windows_are_crops_of_the_whole(tmp_path: Path) -> None:
    with open_scene(scene(tmp_path / "in.tif")) as opened:
        mask = CloudMask(opened, tuple(range(1, 14)), Bright())
        whole = mask.opacity(Window(0, 0, 160, 180))
        assert 0 < whole.mean() < 0.5
        for window in [Window(50, 60, 30, 40), Window(0, 100, 160, 3), Window(159, 0, 1, 180), Window(80, 90, 1, 1)]:
            rows, cols = slice(window.row, window.bottom), slice(window.col, window.right)
            np.testing.assert_array_equal(mask.opacity(window), whole[rows, cols])


@pytest.mark.parametrize(
    ("scale", "offset", "given", "expected"),
    [(None, None, None, 0.8), (1e-4, -0.1, None, 0.7), (None, None, (2e-4, -0.5), 1.1)],
)
def test_it_is_shown_reflectance_in_the_order_of_the_bands(
    tmp_path: Path, scale: float | None, offset: float | None, given: tuple[float, float] | None, expected: float
) -> None:
    shuffled = NAMES[::-1]
    path, detector = scene(tmp_path / "in.tif", shuffled), Bright()
    with rasterio.open(path, "r+") as file:
        file.write(np.full((160, 180), 8000, np.uint16), 13)  # B01 is last
        if scale is not None:
            file.scales, file.offsets = (scale,) * 13, (offset,) * 13
    with open_scene(path) as opened:
        bands = l1c_bands(opened.info)
        assert bands == tuple(range(13, 0, -1))
        CloudMask(opened, bands, detector, given).opacity(Window(0, 0, 20, 20))
    np.testing.assert_allclose(detector.seen[0][..., 0], expected, rtol=1e-6)
    assert (detector.seen[0][..., 1] < 0.5).any()


@pytest.mark.parametrize(
    ("names", "bands", "dtype", "is_l1c"),
    [
        (NAMES, 13, "uint16", True),
        (None, 13, "uint16", True),
        (L1C, 13, "float32", True),
        (None, 12, "uint16", False),  # L2A has no B10
        (None, 13, "uint8", False),
        (("B01",) * 13, 13, "uint16", False),
        (tuple(f"layer {i}" for i in range(13)), 13, "uint16", False),
    ],
)
def test_only_l1c_is_taken_for_l1c(tmp_path: Path, names: Any, bands: int, dtype: str, is_l1c: bool) -> None:
    if dtype == "uint8":
        path = tmp_path / "in.tif"
        pixels = np.ones((13, 9, 9), np.uint8)
        with (
            pytest.warns(rasterio.errors.NotGeoreferencedWarning),
            rasterio.open(path, "w", driver="GTiff", count=13, height=9, width=9, dtype="uint8") as file,
        ):
            file.write(pixels)
    else:
        path = scene(tmp_path / "in.tif", names, bands, dtype)
    with open_scene(path) as opened:
        assert (l1c_bands(opened.info) is not None) == is_l1c


def test_without_the_extra_the_change_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s2cloudless", None)  # an import of it fails
    report = restore_scene(scene(tmp_path / "in.tif"), tmp_path / "out.tif", model=Black(), mask="auto")
    assert report.mask == "auto (from what the model changed)"


def test_no_data_is_no_cloud(tmp_path: Path) -> None:
    path = scene(tmp_path / "in.tif")
    with rasterio.open(path, "r+") as file:
        file.write(np.zeros((160, 180), np.uint16), 7)  # one band without data
    with open_scene(path) as opened:
        assert (CloudMask(opened, tuple(range(1, 14)), Bright()).opacity(Window(0, 0, 160, 180)) == 0).all()


def test_it_agrees_with_the_masks_of_s2cloudless_itself(data_dir: Path) -> None:
    """The same averaging and widening by its own means, but for the shape of the averaging window."""
    package = pytest.importorskip("s2cloudless")
    own = package.S2PixelCloudDetector(threshold=0.4, all_bands=True, average_over=22, dilation_size=11)
    for name in ("fall_s2_cloudy_136_p140", "fall_s2_cloudy_85_p753"):
        with open_scene(data_dir / "sen12mscr" / "s2_cloudy" / f"ROIs1970_{name}.tif") as opened:
            bands = l1c_bands(opened.info)
            assert bands is not None
            window = Window(0, 0, opened.info.height, opened.info.width)
            ours = CloudMask(opened, bands, load_detector()).opacity(window) == 1
            theirs = own.get_cloud_masks(np.moveaxis(opened.read(window) / 1e4, 0, -1)[None])[0] == 1
        assert 0 < theirs.mean() <= 1
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9

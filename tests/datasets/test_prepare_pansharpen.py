"""Pan-sharpening: detail from the panchromatic band, colours from the scene."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from unclouded.datasets.preparing.pansharpen import nonnegative_least_squares, open_sharpened
from unclouded.errors import UncloudedError
from unclouded.scenes.landscape import landscape


def write(path, dn, size=1.0, **options):
    place = {"crs": "EPSG:32631", "transform": Affine(size, 0, 500_000, 0, -size, 5_000_000)} | options
    count, height, width = dn.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=dn.dtype, **place
    ) as f:
        f.write(dn)
    return path


@pytest.fixture(scope="module")
def truth():
    """The scene as a sensor with fine bands would see it, [4, H, W] uint16."""
    return (landscape(np.random.default_rng(1), 200, 240, gsd=0.5) * 2000 + 50).astype(np.uint16)


@pytest.fixture
def scene(tmp_path, truth):
    coarse = truth.reshape(4, 50, 4, 60, 4).mean((2, 4))
    pan = (0.5 * truth[0] + 0.3 * truth[1] + 0.2 * truth[2])[None]
    return write(tmp_path / "ms.tif", coarse.astype("uint16"), 4.0), write(tmp_path / "pan.tif", pan.astype("uint16"))


def test_sharpened_bands_are_nearer_to_the_truth(scene, truth):
    with open_sharpened(*scene) as file, rasterio.open(scene[0]) as coarse:
        assert file.res == (1.0, 1.0)
        sharp = file.read().astype(float)
        plain = coarse.read(out_shape=truth.shape, resampling=rasterio.enums.Resampling.cubic).astype(float)
    assert sharp.shape == truth.shape
    for band in range(3):
        wrong = np.sqrt(np.mean((sharp[band] - truth[band]) ** 2))
        assert wrong < 0.6 * np.sqrt(np.mean((plain[band] - truth[band]) ** 2))
    coarse_again = sharp.reshape(4, 50, 4, 60, 4).mean((2, 4, 1, 3))
    assert coarse_again == pytest.approx(truth.mean((1, 2)), rel=0.02)


def test_without_a_panchromatic_band_the_scene_is_as_it_was(scene):
    with open_sharpened(scene[0], None) as file, rasterio.open(scene[0]) as same:
        np.testing.assert_array_equal(file.read(), same.read())


def test_weights_are_those_of_the_sensor():
    a = np.random.default_rng(0).random((50, 4))
    np.testing.assert_allclose(nonnegative_least_squares(a, a @ [0.5, 0.3, 0.2, 0]), [0.5, 0.3, 0.2, 0], atol=1e-9)
    assert (nonnegative_least_squares(a, a @ [0.9, 0.3, 0.2, -0.4]) >= 0).all()
    np.testing.assert_allclose(nonnegative_least_squares(a, -a.sum(1)), 0.25)


def test_pan_of_another_kind_is_refused(tmp_path, scene, truth):
    ms = scene[0]
    pan = truth[:1]
    for name, dn, size, options, said in (
        ("two", truth[:2], 1.0, {}, "Give the panchromatic band as a file of one band"),
        ("coarse", pan, 4.0, {}, "no finer than"),
        ("utm32", pan, 1.0, {"crs": "EPSG:32632"}, "Warp one to the other"),
        ("far", pan, 1.0, {"transform": Affine(1, 0, 600_000, 0, -1, 5_000_000)}, "does not overlap"),
    ):
        path = write(tmp_path / f"{name}.tif", dn, size, **options)
        with pytest.raises(UncloudedError, match=said), open_sharpened(ms, path):
            pass


def test_spacenet6(data_dir):
    """Real WorldView-2 bands of 1 m and 0.5 m: level and colours stay, detail is the panchromatic band's."""
    scenes = data_dir / "scenes"
    ms, pan = scenes / "spacenet6_ms_1m.tif", scenes / "spacenet6_pan_0.5m.tif"
    if not (ms.is_file() and pan.is_file()):
        pytest.skip(f"{ms.name} and {pan.name} are not in {scenes}")
    with open_sharpened(ms, pan) as file, rasterio.open(ms) as coarse, rasterio.open(pan) as fine:
        assert file.res == pytest.approx((0.5, 0.5), abs=1e-4)
        assert file.count == 4
        sharp, plain, detail = file.read(), coarse.read(), fine.read(1).astype(float)
    height, width = (n // 2 * 2 for n in sharp.shape[1:])
    again = sharp[:, :height, :width].reshape(4, height // 2, 2, width // 2, 2).mean((2, 4))
    plain = plain[:, : height // 2, : width // 2]
    for band in range(4):
        assert np.corrcoef(again[band].ravel(), plain[band].ravel())[0, 1] > 0.9
        assert again[band].mean() == pytest.approx(plain[band].mean(), rel=0.1)
    assert (sharp <= 0).sum() < 10  # no overshoot: the darkest value of the bands is 1
    visible = sharp[:3].mean(0)[:height, :width]
    high = [np.diff(image[:height, :width], axis=1).ravel() for image in (visible, detail)]
    assert np.corrcoef(*high)[0, 1] > 0.8

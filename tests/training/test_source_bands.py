"""Which bands of its files a source takes, and a band that is none."""

import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from rasterio.transform import Affine

from unclouded.datasets.images import write_tiff
from unclouded.errors import UncloudedError
from unclouded.scenes.bands import BandSet
from unclouded.training import pools
from unclouded.training.pools import Array, ClearPool, PairPool
from unclouded.training.recipes import recipe
from unclouded.training.sources import open_pool
from unclouded.training.values import Source

RGB = BandSet.display("red", "green", "blue")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One pair of five bands, each of which holds its number times 10, 1 more where it is cloudy."""
    for name, more in (("cloud", 1), ("label", 0)):
        (tmp_path / name).mkdir()
        bands = np.arange(10, 60, 10, dtype=np.uint8)[:, None, None] + np.uint8(more)
        write_tiff(tmp_path / name / "a.tif", np.broadcast_to(bands, (5, 32, 32)))
    return tmp_path


def test_a_source_takes_its_channels_in_their_order(folder: Path) -> None:
    pairs = open_pool(Source(channels=(4, 3, 1)), folder, RGB)
    assert isinstance(pairs, PairPool)
    cloudy, clear = pairs.whole(0)
    np.testing.assert_allclose(255 * cloudy[:, 0, 0], (41, 31, 11), atol=1e-4)
    np.testing.assert_allclose(255 * clear[:, 0, 0], (40, 30, 10), atol=1e-4)
    images = open_pool(Source(kind="clear", path="label", channels=(2, 5, 1)), folder, RGB)
    assert isinstance(images, ClearPool)
    np.testing.assert_allclose(255 * images.images[0][:, 0, 0], (20, 50, 10), atol=1e-4)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(channels=(1, 2, 6)), "has 5 bands and no band 6"),
        (Source(), "has 5 bands, but the recipe names 3"),
        (Source(kind="clear", path="label", channels=(1, 2, 6)), "has 5 bands and no band 6"),
    ],
)
def test_bands_that_a_file_does_not_have_are_named(folder: Path, source: Source, message: str) -> None:
    with pytest.raises(UncloudedError, match=message):
        open_pool(source, folder, RGB)


def test_channels_are_as_many_as_the_recipes_bands() -> None:
    sources = (Source(channels=(1, 2)),)
    with pytest.raises(ValidationError, match="2 channels for the recipe's 3"):
        type(recipe("base")).model_validate(recipe("base").model_dump() | {"sources": sources})
    with pytest.raises(ValidationError, match="channels is for the kinds pairs and clear"):
        Source(kind="landscapes", channels=(1, 2, 3))


@pytest.mark.parametrize("kind", ["pairs", "clear"])
def test_a_band_that_is_white_everywhere_is_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    pools.warn_once.cache_clear()
    image = np.full((4, 16, 16), 90, np.uint8)
    image[3] = 255
    for name in ("cloud", "label"):
        (tmp_path / name).mkdir()
        write_tiff(tmp_path / name / "a.tif", image)
    source = Source(kind=kind, path="." if kind == "pairs" else "label")  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        open_pool(source, tmp_path, BandSet.display("red", "green", "blue", "nir"))
    assert [r.message for r in caplog.records] == [
        f"The band nir of {tmp_path / 'label/a.tif'} is 255 everywhere: is it an alpha band?"
    ]


def test_numbers_of_no_known_unit_are_shown_between_two_percentiles(tmp_path: Path) -> None:
    dn = np.random.default_rng(0).uniform((100, 200, 3), (900, 1800, 5), (40, 40, 3)).transpose(2, 0, 1)
    write_tiff(tmp_path / "raw.tif", dn)
    pool = open_pool(Source(kind="clear", path="raw.tif", stretch="p5-90", channels=(3, 1, 2)), tmp_path, RGB)
    assert isinstance(pool, ClearPool)
    for band, raw in zip(pool.images[0], dn[[2, 0, 1]], strict=True):
        low, high = np.percentile(raw, (5, 90))
        np.testing.assert_allclose(band, np.clip((raw - low) / (high - low), 0, 1), atol=1e-5)


def test_a_constant_band_cannot_be_stretched(folder: Path) -> None:
    with pytest.raises(UncloudedError, match=r"A band of .*a\.tif is the same number at both percentiles of p2-98"):
        open_pool(Source(kind="clear", path="label", channels=(1, 2, 3), stretch="p2-98"), folder, RGB)


def test_a_source_is_sharpened_by_its_panchromatic_band(tmp_path: Path) -> None:
    fine = np.random.default_rng(0).integers(50, 200, (3, 64, 64)).astype(np.uint8)
    fine[:] = fine.mean(axis=0, keepdims=True)  # grey: the panchromatic band knows all of it
    coarse = fine.reshape(3, 32, 2, 32, 2).mean((2, 4)).astype(np.uint8)
    write_tiff(tmp_path / "ms.tif", coarse, crs="EPSG:32631", transform=Affine(2, 0, 0, 0, -2, 0))
    write_tiff(tmp_path / "pan.tif", fine[:1], crs="EPSG:32631", transform=Affine(1, 0, 0, 0, -1, 0))
    pool = open_pool(Source(kind="clear", path="ms.tif", pan="pan.tif"), tmp_path, RGB)
    assert isinstance(pool, ClearPool)
    np.testing.assert_allclose(255 * pool.images[0], fine, atol=6)


def test_landscapes_of_a_resolution_and_with_towns() -> None:
    def houses(gsd: float = 0.5, **fields: object) -> Array:
        pool = open_pool(Source(kind="landscapes", count=6, gsd=(gsd,), **fields), Path(), RGB)  # type: ignore[arg-type]
        assert isinstance(pool, ClearPool)
        return np.stack(pool.images)

    without, few, many = houses(towns=0.0), houses(), houses(towns=1.0)
    edges = [np.abs(np.diff(images.mean(axis=1), axis=-1)).mean() for images in (without, few, many)]
    assert edges[0] <= edges[1] < edges[2]
    np.testing.assert_array_equal(many, houses(towns=1.0))
    coarse = np.abs(np.diff(houses(10.0, towns=1.0).mean(axis=1), axis=-1)).mean()
    assert coarse > edges[2]  # of more houses in as many pixels


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "pairs", "stretch": "p2-98"}, "stretch is for the kind clear"),
        ({"kind": "pairs", "contrast": 0.5}, "contrast is for the kinds clear and landscapes"),
        ({"kind": "clear", "towns": 0.5}, "towns is for the kind landscapes"),
        ({"kind": "clear", "transplanted": 0.5}, "transplanted is for the kind pairs"),
        ({"kind": "clear", "stretch": "2-98"}, "Give two percentiles"),
        ({"kind": "landscapes", "gsd": (0.0,)}, "greater than 0"),
    ],
)
def test_a_field_of_another_kind_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**fields)  # type: ignore[arg-type]

"""Which bands of its files a source takes, and a band that is none."""

import logging
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from unclouded.datasets.images import write_tiff
from unclouded.errors import UncloudedError
from unclouded.scenes.bands import BandSet
from unclouded.training import pools
from unclouded.training.pools import ClearPool, PairPool
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

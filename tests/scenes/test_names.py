"""Names of scenes: paths and addresses."""

import pytest

from unclouded.scenes.names import file_name, is_address, without_secrets


@pytest.mark.parametrize(
    ("name", "written", "last"),
    [
        ("https://a.org/b/c.tif?sig=x/y", "https://a.org/b/c.tif", "c.tif"),
        ("https://me:pw@a.org/b/c.tif", "https://a.org/b/c.tif", "c.tif"),
        ("https://a.org/b@c.tif?u=d@e", "https://a.org/b@c.tif", "b@c.tif"),
        ("/vsicurl/https://me@a.org/c.tif?x", "/vsicurl/https://a.org/c.tif", "c.tif"),
        ("s3://bucket/[1].tif", "s3://bucket/[1].tif", "[1].tif"),
        ("zip:///tmp/a.zip!c.tif", "zip:///tmp/a.zip!c.tif", "a.zip!c.tif"),
        ("/vsizip//tmp/a.zip/c.tif", "/vsizip//tmp/a.zip/c.tif", "c.tif"),
    ],
)
def test_addresses(name: str, written: str, last: str) -> None:
    assert is_address(name)
    assert (without_secrets(name), file_name(name)) == (written, last)


@pytest.mark.parametrize("name", ["what?.tif", "me@home/c.tif", "../a b.tif", "scene"])
def test_paths_stay_as_they_are(name: str) -> None:
    assert not is_address(name)
    assert without_secrets(name) == name
    assert file_name(name) == name.split("/")[-1]

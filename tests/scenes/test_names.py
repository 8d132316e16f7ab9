"""Names of scenes: paths and addresses."""

import pytest

from unclouded.errors import UncloudedError
from unclouded.scenes.failures import reading
from unclouded.scenes.names import file_name, is_address, without_secrets
from unclouded.scenes.provenance import condition_tags


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


@pytest.mark.parametrize(
    ("name", "mend"), [("https://a.org/c.tif", "Check the address"), ("c.tif", "damaged or trunc")]
)
def test_an_address_that_answers_badly_is_not_called_a_damaged_file(name: str, mend: str) -> None:
    with pytest.raises(UncloudedError, match=mend), reading(name):
        raise OSError("Range downloading not supported by this server!")


def test_further_images_are_named_without_their_signatures() -> None:
    tags = condition_tags(["https://a.org/1.tif?sig=SECRET", "2.tif"], "s3://b/s1.tif?sig=SECRET")
    assert tags == {"UNCLOUDED_DATES": "1.tif, 2.tif", "UNCLOUDED_SAR": "s1.tif"}

"""Scenes of three places, made once."""

import pytest

from place_scenes import write_places


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder that tests only read: see `write_places`."""
    folder = tmp_path_factory.mktemp("scenes")
    write_places(folder)
    return folder

"""`rio unclouded` through rasterio's own command line: found by its entry point, and the same as `unclouded remove`."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.transform import Affine

import unclouded.restore
from unclouded.cli.remove import remove
from unclouded.cli.rio import unclouded as command
from unclouded.scenes.bands import BandSet


@pytest.fixture
def rio(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `rio …` in this process with a model that inverts -> click's result."""
    if not any(e.name == "unclouded" for e in entry_points(group="rasterio.rio_plugins")):
        pytest.fail("the plugin is not registered; install the package again: make setup")
    from rasterio.rio.main import main_group

    def restore(y: Any, origins: Sequence[Any], sampling: object = None) -> Any:
        return SimpleNamespace(clear=1 - y)

    model = SimpleNamespace(bands=BandSet.display("red", "green", "blue"), restore=restore)
    monkeypatch.setattr(unclouded.restore, "load", lambda name, **options: model)
    return lambda *args: CliRunner().invoke(main_group, [str(a) for a in args])


def tif(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 20, 30)).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 4e6)}
    with rasterio.open(path, "w", driver="GTiff", count=3, height=20, width=30, dtype="uint8", **place) as file:
        file.write(pixels)
    return path


def test_rio_takes_the_clouds_out(rio: Any, tmp_path: Path) -> None:
    source, target = tif(tmp_path / "in.tif"), tmp_path / "out.tif"
    result = rio("unclouded", source, target, "--bands", "3,2,1", "--mask-out", tmp_path / "m.tif", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["bands"] == {"red": 3, "green": 2, "blue": 1}
    with rasterio.open(source) as a, rasterio.open(target) as b:
        np.testing.assert_array_equal(b.read(), 255 - a.read())
    assert (tmp_path / "m.tif").is_file()


def test_options_and_defaults_are_those_of_remove() -> None:
    ours, theirs = ({p.name: (p.opts, p.default, p.type) for p in c.params} for c in (command, remove))
    assert ours == theirs


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--bands", "1,2"], 2, "Error: The model wants 3 bands"),
        (["--mask", "missing.tif"], 1, "Error: "),
        (["--nonsense"], 2, "No such option"),
    ],
)
def test_errors_are_sentences_and_exit_codes(
    rio: Any, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    result = rio("unclouded", tif(tmp_path / "in.tif"), tmp_path / "out.tif", *options)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out.tif").exists()


def test_rio_does_not_wait_for_torch() -> None:
    code = "import sys, unclouded.cli.rio; assert 'torch' not in sys.modules and 'rasterio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rio_lists_it(rio: Any) -> None:
    result = rio("--help")
    assert "Take the clouds out of a scene." in result.output

"""`unclouded remove` of many scenes at once: folders, patterns and lists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scene_files import random_tif


def test_a_folder_of_scenes(remove: Any, double: Any, tmp_path: Path) -> None:
    scenes, results = tmp_path / "scenes", tmp_path / "results"
    scenes.mkdir()
    for name in ("a.tif", "c.tif"):
        random_tif(scenes / name)
    (scenes / "b.tif").write_text("no image")
    (scenes / "notes.md").write_text("no scene")
    code, out, err = remove(scenes, results, "--json")
    assert code == 1
    assert [(Path(o["input"]).name, o["status"]) for o in json.loads(out)] == [
        ("a.tif", "done"), ("b.tif", "failed"), ("c.tif", "done"),
    ]  # fmt: skip
    assert "1 of 3 scenes failed" in err
    assert sorted(p.name for p in results.iterdir()) == ["a.tif", "c.tif", "unclouded-manifest.json"]
    random_tif(scenes / "b.tif")
    batches: list[int] = []
    double.on_batch = lambda: batches.append(1)
    code, _, err = remove(scenes, results, "--resume")
    assert (code, len(batches)) == (0, 1)
    assert err.count("done") == 3


def test_patterns_and_lists(remove: Any, tmp_path: Path) -> None:
    random_tif(tmp_path / "x1.tif"), random_tif(tmp_path / "x2.tif"), random_tif(tmp_path / "y.tif")
    assert remove(tmp_path / "x*.tif", tmp_path / "by_pattern")[0] == 0
    (tmp_path / "list.txt").write_text("# mine\ny.tif\nx2.tif\n")
    assert remove(tmp_path / "list.txt", tmp_path / "by_list")[0] == 0
    assert sorted(p.name for p in (tmp_path / "by_pattern").glob("*.tif")) == ["x1.tif", "x2.tif"]
    assert sorted(p.name for p in (tmp_path / "by_list").glob("*.tif")) == ["x2.tif", "y.tif"]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("none*.tif", [], "does not exist|no scenes"),
        ("x*.tif", ["--preview", "p.png"], "--preview is for one scene"),
        ("x*.tif", ["--dry-run"], "--dry-run is for one scene"),
        ("twice.txt", [], "Several scenes would be written as x1.tif"),
    ],
)
def test_groups_that_cannot_be(remove: Any, tmp_path: Path, given: str, options: list[str], message: str) -> None:
    random_tif(tmp_path / "x1.tif")
    (tmp_path / "twice.txt").write_text("x1.tif\nx1.tif\n")
    code, _, err = remove(tmp_path / given, tmp_path / "out", *options)
    assert code == 2
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()

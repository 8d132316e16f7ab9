"""`unclouded remove` of many scenes at once: folders, patterns and lists."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scene_files import random_tif, read, write_tif


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
        ("x*.tif", ["--preview", "x1.tif"], "Give --preview the name of a folder"),
        ("x*.tif", ["--sar", "x1.tif"], "--sar is for one scene"),
        ("x*.tif", ["--dry-run"], "--dry-run is for one scene"),
        ("twice.txt", [], "Several files would be written as .*x1.tif"),
        ("x*.tif", ["--mask-out", "maps", "--weights-out", "maps"], "Several files would be written as .*x1.tif"),
    ],
)
def test_groups_that_cannot_be(
    remove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    random_tif(tmp_path / "x1.tif")
    (tmp_path / "twice.txt").write_text("x1.tif\nx1.tif\n")
    code, _, err = remove(tmp_path / given, tmp_path / "out", *options)
    assert code == 2
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()


def masks_for(folder: Path, *names: str) -> Path:
    """A mask of the upper half of a scene under each name."""
    marked = np.zeros((1, 60, 80), np.uint8)
    marked[:, :30] = 1
    folder.mkdir()
    for name in names:
        write_tif(folder / name, marked)
    return folder


def test_each_scene_has_its_own_mask_and_maps(remove: Any, double: Any, tmp_path: Path) -> None:
    scenes, results, maps = (tmp_path / name for name in ("scenes", "results", "maps"))
    scenes.mkdir()
    for name in ("a.tif", "b.png.tif", "c.tif"):
        random_tif(scenes / name)
    masks = masks_for(tmp_path / "masks", "a.tif", "b.png.tif")
    options = ("--mask", masks, "--mask-out", maps, "--preview", maps, "--report", maps)
    code, _, err = remove(scenes, results, *options)
    assert code == 1
    assert re.search(r"c.tif: Of c there should be one mask in \S+masks, and there is none", err)
    assert sorted(p.name for p in results.glob("*.tif")) == ["a.tif", "b.png.tif"]
    written = {f"{name}{ending}" for name in ("a", "b.png") for ending in (".tif", ".png", ".html")}
    assert {p.name for p in maps.iterdir() if not p.name.endswith(".aux.xml")} == written
    before, after = read(scenes / "a.tif"), read(results / "a.tif")
    np.testing.assert_array_equal(after[:, 30:], before[:, 30:])
    np.testing.assert_array_equal(after[:, :30], 255 - before[:, :30])
    np.testing.assert_array_equal(read(maps / "a.tif")[0, :, 0], np.repeat([2, 0], 30))

    write_tif(masks / "c.jp2.tif", np.ones((1, 60, 80), np.uint8))  # of another scene
    write_tif(masks / "c.tif", np.ones((1, 60, 80), np.uint8))
    (maps / "a.png").unlink()
    batches: list[int] = []
    double.on_batch = lambda: batches.append(1)
    code, _, err = remove(scenes, results, *options, "--resume", "--overwrite")
    assert (code, len(batches)) == (0, 2)  # c, and a, which lacks its preview
    assert (maps / "a.png").exists()
    write_tif(masks / "b.png.tif", np.ones((1, 60, 80), np.uint8), compress="deflate")
    assert remove(scenes, results, *options, "--resume", "--overwrite")[0] == 0
    assert (read(maps / "b.png.tif") == 2).all()
    assert len(batches) == 3


def test_two_masks_of_one_scene_are_not_chosen_from(remove: Any, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    random_tif(tmp_path / "scenes" / "a.tif")
    masks = masks_for(tmp_path / "masks", "a.tif", "a.img")
    code, _, err = remove(tmp_path / "scenes", tmp_path / "results", "--mask", masks)
    assert code == 1
    assert "there is a.img and a.tif" in err

"""The benchmark that is prepared from generated scenes with a known shift and known clouds."""

import csv
import json
import shutil

import numpy as np
import pytest
import rasterio

from place_scenes import OPTIONS, SHIFT, SIZE, TILE, job, write
from unclouded.datasets import layouts
from unclouded.datasets.pairs import read_pairs
from unclouded.datasets.prepare import PrepareOptions, prepare
from unclouded.datasets.preparing.assemble import split_places
from unclouded.datasets.preparing.datasheet import histogram, histogram_svg
from unclouded.errors import UncloudedError, UsageError
from unclouded.scenes.landscape import landscape


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory, scenes):
    folder = tmp_path_factory.mktemp("made")
    done = list(prepare(job(folder, scenes), folder / "out", OPTIONS))
    assert [d.made for d in done] == [True] * 3
    return folder / "out"


def test_shift_is_found_within_a_tenth_of_a_pixel(benchmark):
    for place in json.loads((benchmark / "datasheet.json").read_text())["places"]:
        assert (place["shift"]["rows"], place["shift"]["cols"]) == pytest.approx(SHIFT, abs=0.1)
        assert place["shift"]["residual"] < 0.2


def test_pairs_are_aligned_once_applied(benchmark):
    """Outside of the clouds the pairs show the same ground."""
    for pair in read_pairs(benchmark):
        if pair.stem.endswith("_64"):  # columns 66 to 129 of the clear scene: no clouds from 104 on
            cloudy, clear = (image[:, 4:-4, 44:].astype(float) for image in pair.read())
            assert np.corrcoef(cloudy.ravel(), clear.ravel())[0, 1] > 0.97


def test_coverage_is_what_was_put_there(benchmark):
    """The grid begins at the clear scene's column 2, where both have data. Clouds over its columns 40 to 103: tiles
    from column 2 are covered by 26/64, from 66 by 38/64."""
    with (benchmark / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["coverage"]) == pytest.approx({"0": 26 / 64, "64": 38 / 64}[row["col"]], abs=1.01 / 64)
    with (benchmark / "left_out.csv").open() as file:
        left_out = list(csv.DictReader(file))
    assert {(row["why"], row["col"]) for row in left_out} == {("clear", "128")}
    assert (len(rows), len(left_out)) == (3 * 6, 3 * 3)
    assert {float(row["left"]) - 500_004 - 2 * int(row["col"]) for row in rows} == {0, 5_000, 10_000}


def test_split_is_by_place_and_layout_is_cuhk(benchmark):
    pairs = read_pairs(benchmark)
    places = {part: {p.stem[0] for p in pairs if p.part == part} for part in ("train", "test")}
    assert (len(places["train"]), len(places["test"])) == (2, 1)
    assert not places["train"] & places["test"]
    assert pairs[0].read_cloudy().shape == (4, TILE, TILE)
    by_layout = layouts.cuhk("benchmark")(benchmark)
    assert {p.stem.split("-", 1)[1] for p in by_layout} == {p.stem for p in pairs}
    np.testing.assert_array_equal(
        by_layout[0].read_clear(), next(p for p in pairs if p.stem == by_layout[0].stem.split("-", 1)[1]).read_clear()
    )


def test_datasheet_counts_everything(benchmark):
    facts = json.loads((benchmark / "datasheet.json").read_text())
    pairs = read_pairs(benchmark)
    assert facts["pairs"] == {part: sum(p.part == part for p in pairs) for part in ("test", "train")}
    for part, counts in facts["coverage_histogram"].items():
        assert sum(counts) == facts["pairs"][part]
        assert f"{sum(counts)} pairs" in (benchmark / f"coverage_{part}.svg").read_text()
    assert "| a | a |" in (benchmark / "DATASHEET.md").read_text()


def test_the_same_command_again_keeps_places_and_makes_changed_ones(tmp_path, scenes, benchmark):
    mine, out = tmp_path / "scenes", tmp_path / "out"
    shutil.copytree(scenes, mine)
    path = job(tmp_path, mine)
    first = prepare(path, out, OPTIONS)
    next(first)
    first.close()  # interrupted after one place
    assert not (out / "pairs.csv").exists()
    (out / ".places" / ".b.partial").mkdir()  # and in the midst of another
    assert [d.made for d in prepare(path, out, OPTIONS)] == [False, True, True]
    assert (out / "pairs.csv").read_bytes() == (benchmark / "pairs.csv").read_bytes()
    assert not list(out.rglob("*.partial"))
    with rasterio.open(mine / "b_mask.tif", "r+") as mask:
        mask.write(np.ones((1, SIZE, SIZE), np.uint8))
    assert [d.made for d in prepare(path, out, OPTIONS)] == [False, True, False]
    facts = json.loads((out / "datasheet.json").read_text())
    assert facts["left_out"]["obscured"] > 0
    assert not [p for p in read_pairs(out) if p.stem.startswith("b")]


def test_unrelated_scenes_are_refused_and_the_others_kept(tmp_path, scenes):
    path = job(tmp_path, scenes)
    elsewhere = np.rint(landscape(np.random.default_rng(60), SIZE, SIZE, gsd=2.0) * 255).astype(np.uint8)
    write(tmp_path / "wrong.tif", elsewhere, 505_000)
    path.write_text(path.read_text().replace(str(scenes / "b_cloudy.tif"), str(tmp_path / "wrong.tif")))
    out = tmp_path / "out"
    with pytest.raises(UncloudedError, match=r"1 of 3 scene pairs.*wrong\.tif does not match .*b_clear\.tif"):
        list(prepare(path, out, OPTIONS))
    done = list(prepare(path, out, PrepareOptions(tile=TILE, skip_bad=True)))
    assert [(d.made, d.refused is None) for d in done] == [(False, True), (False, False), (False, True)]
    assert list(json.loads((out / "datasheet.json").read_text())["refused"]) == ["b"]


def record(name, pairs, west):
    return {"place": name, "name": name, "kept": [{}] * pairs, "grid": {"lonlat": [west, 0, west + 1, 1]}}


def test_split_is_by_share_and_never_between_overlapping_places():
    records = [record(f"p{i}", 10, 2 * i) for i in range(50)]
    for seed in range(3):
        parts = split_places(records, 0.2, seed)
        assert sum(part == "test" for part in parts.values()) == 10
        assert parts == split_places(records[::-1], 0.2, seed)
    assert split_places(records, 0.2, 0) != split_places(records, 0.2, 1)
    chain = [record("a", 1, 0), record("c", 1, 1.8), record("b", 1, 0.9), record("far", 1, 50)]
    parts = split_places(chain, 0.2, 0)
    assert len({parts[p] for p in "abc"}) == 1
    assert parts["far"] != parts["a"]
    with pytest.raises(UsageError, match="cannot be split without a leak"):
        split_places(chain[:3], 0.2, 0)
    assert set(split_places(chain[:3], 0, 0).values()) == {"train"}
    with pytest.raises(UncloudedError, match="No pair is left"):
        split_places([record("a", 0, 0)], 0, 0)


def test_histogram_bins():
    assert histogram([0, 0.05, 0.1, 0.95, 1]) == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert histogram_svg([1, 3], "T", "red").count("<rect") == 3

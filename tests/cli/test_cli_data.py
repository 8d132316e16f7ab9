"""`unclouded data`: lists, facts, checks with exit codes."""

import json
import shutil

import pytest

from unclouded.cli import main
from unclouded.datasets import miniature


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["data", *(str(a) for a in arguments)])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_list_names_data_sets_and_splits(capsys):
    code, out, _ = run(capsys, "list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert len(listed["data_sets"]) == 11
    assert listed["splits"]["rice2-val"]["n"] == 60
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    assert "sen12ms-cr-ts" in out
    assert "rice2-cloudy-labels" in out


def test_info_says_source_terms_layout_and_faults(capsys):
    code, out, _ = run(capsys, "info", "cuhk-cr1", "--json")
    facts = json.loads(out)
    assert code == 0
    assert {"home", "licence", "citation", "layout", "gsd", "gap", "bands", "split", "problems"} <= set(facts)
    assert any("copies" in problem for problem in facts["problems"])
    assert "CUHK-CR1/{train,test}" in run(capsys, "info", "cuhk-cr1")[1]
    code, _, err = run(capsys, "info", "nosuch")
    assert code == 2
    assert "Choose one of" in err


def test_check_of_a_folder(capsys, tmp_path):
    root = miniature.generate("rice2", tmp_path, pairs=3, size=16)
    code, out, _ = run(capsys, "check", root, "--json")
    assert (code, json.loads(out)["pairs"], json.loads(out)["problems"]) == (0, {"all": 3}, [])
    damaged = root / "cloud" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert run(capsys, "check", root, "--quick")[0] == 0
    code, out, err = run(capsys, "check", root)
    assert (code, out) == (1, "")
    assert "2.png cannot be read" in err
    assert "1 thing is wrong" in err
    (root / "label" / "3.png").unlink()
    assert "3.png" in run(capsys, "check", root)[2]


def test_check_finds_pairs_that_are_there_twice(capsys, tmp_path):
    root = miniature.generate("rice1", tmp_path, pairs=3, size=16)
    shutil.copy(root / "label" / "1.png", root / "label" / "2.png")  # one place on two days: no copy
    for kind in ("cloud", "label"):
        shutil.copy(root / kind / "3.png", root / kind / "9.png")
    for dataset in ([], ["--dataset", "rice1"]):
        _, out, err = run(capsys, "check", root, *dataset, "--json")
        assert json.loads(out)["copies"] == [["9", "3"]]
        assert "9 is a copy of 3" in err


def test_check_of_a_download_says_what_is_missing(capsys, tmp_path):
    root = miniature.generate("t-cloud", tmp_path, pairs=3, size=16)
    code, out, err = run(capsys, "check", root, "--dataset", "t-cloud", "--json")
    assert code == 1
    assert json.loads(out)["missing"] == ["train: 2 of 2351 pairs", "test: 1 of 588 pairs"]
    assert "Missing: test: 1 of 588 pairs" in err
    code, _, err = run(capsys, "check", root, "--dataset", "cuhk-cr1")
    assert code == 1
    assert "train/cloud" in err or "label" in err
    assert run(capsys, "check", root, "--dataset", "t-cloud", "--split", "test")[0] == 0

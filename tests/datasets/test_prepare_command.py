"""`unclouded data prepare` from outside: what it says, and that a bad job or option is one sentence."""

import json

import pytest

from place_scenes import TILE, job
from unclouded.cli import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["data", "prepare", *(str(a) for a in arguments)])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_command(capsys, tmp_path, scenes):
    path = job(tmp_path, scenes)
    code, out, err = run(capsys, path, tmp_path / "out", "--tile", TILE, "--name", "MINE", "--json")
    assert code == 0
    assert json.loads(out)["pairs"]["train"] > 0
    assert "a: 6 pairs, 3 tiles left out; shift +2.7" in err
    assert (tmp_path / "out" / "MINE" / "train" / "cloud").is_dir()
    assert (tmp_path / "out" / "nir" / "MINE" / "test" / "label").is_dir()


@pytest.mark.parametrize(
    ("text", "name", "code", "said"),
    [
        ("place,cloudy\nx,y\n", "job.csv", 2, "It needs place, cloudy and clear"),
        ("place,cloudy,clear\n", "job.csv", 2, "lists no places"),
        ("place,cloudy,clear\nx,no.tif,no.tif\n", "job.csv", 1, "no.tif, which is absent"),
        ("place,cloudy,clear\n../x,job.csv,job.csv\n", "job.csv", 2, "files get this name"),
        ("place,cloudy,clear\nx,job.csv,job.csv\nx,job.csv,job.csv\n", "job.csv", 2, "'x' 2 times"),
        ("place,cloudy,clear\nx,job.csv,job.csv\n", "job.csv", 1, "is not an image that can be read"),
        ("places: {a: 1}", "job.yaml", 2, "has no list `places`"),
        ("places: [1", "job.yaml", 2, "is not valid"),
        ("places: [{place: a}]", "job.yaml", 2, "is wrong at places.0.cloudy"),
        ("", "job.txt", 2, "Give a .yaml or .csv file"),
    ],
)
def test_a_bad_job_is_one_sentence(capsys, tmp_path, text, name, code, said):
    (tmp_path / name).write_text(text)
    found, out, err = run(capsys, tmp_path / name, tmp_path / "out")
    assert (found, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--coverage", "guess"], "Use mask, cloud-net or brightening"),
        (["--coverage", "cloud-net", "--cloud-net", "absent.safetensors"], "There is no Cloud-Net file absent"),
        (["--least-coverage", "0.9", "--most-coverage", "0.1"], "leave nothing"),
        (["--test-share", "1"], "from 0 to below 1"),
        (["--stretch", "5"], "Give two numbers"),
        (["--stretch", "5,1"], "lower value first"),
        (["--name", "a/b"], "plain name"),
        (["--format", "jp2"], "Use png or tif"),
        (["--pixel-size", "-1"], "Give a positive number"),
        (["--pixel-size", "inf"], "Give a positive number"),
    ],
)
def test_bad_options(capsys, tmp_path, arguments, said):
    code, _, err = run(capsys, tmp_path / "job.csv", tmp_path / "out", *arguments)
    assert code == 2
    assert said in err


def test_a_folder_of_other_things_is_left_alone(capsys, tmp_path, scenes):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    code, _, err = run(capsys, job(tmp_path, scenes), tmp_path / "out")
    assert code == 1
    assert "Choose an empty or new folder" in err


def test_pixels_too_small_to_count_are_refused(capsys, tmp_path, scenes):
    code, _, err = run(capsys, job(tmp_path, scenes), tmp_path / "out", "--pixel-size", "1e-9")
    assert code == 1
    assert "Give a larger --pixel-size" in err
    assert "Traceback" not in err

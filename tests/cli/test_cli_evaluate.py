"""`unclouded evaluate` as a user calls it: JSON, CSV, parts, baselines, and what it says to wrong use."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unclouded.cli import main
from unclouded.datasets import miniature
from unclouded.datasets.images import read_image
from unclouded.sampling import PAPER, Sampling


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # such small networks only lose by sharing
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rice(tmp_path_factory) -> Path:
    return miniature.generate("rice2", tmp_path_factory.mktemp("data"), pairs=4, size=24)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from unclouded.models import store
    from unclouded.models.card import ModelCard
    from unclouded.models.de import DE, DEConfig
    from unclouded.models.unet import UNetConfig
    from unclouded.scenes.bands import BandSet

    torch.manual_seed(0)
    small = {"channels": 32, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1}
    config = DEConfig(
        bands=3,
        prior="light",
        prior_options={"channels": (8, 8), "blocks": (1, 1)},
        cnp=UNetConfig(6, 3, **small),
        wa=UNetConfig(9, 3, **small),
    )
    card = ModelCard(
        name="tiny",
        method="de",
        architecture=config.model_dump(mode="json"),
        bands=BandSet.display("red", "green", "blue"),
        sampling=Sampling(steps=2),
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    network = DE(config)
    with torch.no_grad():
        for parameter in network.parameters():  # fresh networks start as the identity
            parameter.add_(0.02 * torch.randn_like(parameter))
    store.save(path, network, card)
    return path


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(exit_.value.code or 0), out, err


def test_json_csv_and_summary(capsys, rice, model, tmp_path):
    code, out, err = run(capsys, "evaluate", "--model", model, "--data", rice, "--out", tmp_path / "o", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert {"model", "data", "n", "protocol", "metrics"} <= set(result)
    assert (result["model"], result["data"], result["n"], result["protocol"]) == (str(model), str(rice), 4, "paper")
    for metric in ("psnr", "ssim"):
        value = result["metrics"][metric]
        assert value["low"] <= value["mean"] <= value["high"]
    assert result["sampling"]["steps"] == 2
    assert json.loads((tmp_path / "o" / "summary.json").read_text()) == result
    rows = list(csv.DictReader((tmp_path / "o" / "per_image.csv").read_text().splitlines()))
    assert [row["stem"] for row in rows] == ["1", "2", "3", "4"]
    mean = sum(float(row["psnr"]) for row in rows) / 4
    assert result["metrics"]["psnr"]["mean"] == pytest.approx(mean, abs=1e-5)


def test_chosen_metrics_are_shown_alone(capsys, rice, model):
    arguments = ("evaluate", "--model", model, "--data", rice, "--protocol", "standard", "--json")
    everything = json.loads(run(capsys, *arguments)[1])
    chosen = json.loads(run(capsys, *arguments, "--metrics", "psnr, sam,bias")[1])
    assert set(everything["metrics"]) - set(chosen["metrics"]) == {"ssim", "mae", "ergas", "gradient_ratio"}
    assert set(chosen["metrics"]) == {"psnr", "sam", "bias_1", "bias_2", "bias_3"}
    for part in ("metrics", "cloudy_pixels", "clear_pixels"):
        assert chosen[part].items() <= everything[part].items()


def test_the_same_command_gives_the_same_bytes_in_any_batch(capsys, rice, model):
    first = run(capsys, "evaluate", "--model", model, "--data", rice, "--json")[1]
    assert run(capsys, "evaluate", "--model", model, "--data", rice, "--json")[1] == first
    batched = json.loads(run(capsys, "evaluate", "--model", model, "--data", rice, "--batch-size", 3, "--json")[1])
    assert batched["metrics"]["psnr"]["mean"] == pytest.approx(json.loads(first)["metrics"]["psnr"]["mean"], abs=1e-3)
    other = json.loads(run(capsys, "evaluate", "--model", model, "--data", rice, "--seed", 1, "--json")[1])
    assert other["metrics"] != json.loads(first)["metrics"]
    assert other["sampling"]["seed"] == 1


def test_the_prior_alone_and_the_input_are_other_methods(capsys, rice, model):
    found = {}
    for option in ("--prior-only", "--no-prior", "--input", "--steps=2"):
        result = json.loads(run(capsys, "evaluate", "--model", model, "--data", rice, option, "--json")[1])
        found[result["what"]] = result["metrics"]["psnr"]["mean"]
    assert set(found) == {"prior alone", "pure diffusion", "cloudy input", "model"}
    assert len(set(found.values())) == 4


@pytest.mark.parametrize("what", [[], ["--prior-only"]])
@pytest.mark.parametrize("option", [("--self-ensemble", 4), ("--scales", 2)])
def test_the_prior_of_copies_and_of_scales_is_another(capsys, rice, model, what, option):
    plain, turned = (
        json.loads(run(capsys, "evaluate", "--model", model, "--data", rice, "--json", *what, *more)[1])
        for more in ([], option)
    )
    assert turned["metrics"]["psnr"]["mean"] != plain["metrics"]["psnr"]["mean"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", 1001), "1001 sampling steps do not fit into 1000 steps"),
        (("--start", 1001), "A warm start at step 1001 is outside (0, 1000]"),
        (("--start", 20, "--steps", 30), "30 sampling steps do not fit into 20 steps"),
        (("--self-ensemble", 3), "should be 1, 2, 4 or 8"),
    ],
)
def test_steps_and_starts_beyond_the_schedule_are_wrong_use(capsys, rice, model, options, message):
    code, out, err = run(capsys, "evaluate", "--model", model, "--data", rice, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_quality_paper_is_ddim_with_50_steps(capsys, rice, model):
    found = json.loads(run(capsys, "evaluate", "--model", model, "--data", rice, "--limit", 1, "--quality", "paper",
                           "--json")[1])  # fmt: skip
    assert found["sampling"] == PAPER.model_dump()


def test_the_input_needs_no_model(capsys, rice):
    code, out, _ = run(capsys, "evaluate", "--input", "--data", rice, "--json")
    assert (code, json.loads(out)["model"]) == (0, None)


def test_images_without_truth_are_restored_and_not_scored(capsys, rice, model, tmp_path):
    data = tmp_path / "cloudy_only"
    shutil.copytree(rice / "cloud", data)
    code, out, err = run(capsys, "evaluate", "--model", model, "--data", data, "--out", tmp_path / "o", "--json")
    assert code == 0
    assert "nothing was scored: 4 images restored" in err
    assert json.loads(out)["metrics"] == {}
    assert json.loads(out)["n"] == 0
    assert read_image(tmp_path / "o" / "restored" / "1.png").shape == (3, 24, 24)
    code, _, err = run(capsys, "evaluate", "--model", model, "--data", data)
    assert code == 2
    assert "Give --out" in err


def test_restored_images_are_what_was_scored(capsys, rice, tmp_path):
    run(capsys, "evaluate", "--input", "--data", rice, "--out", tmp_path, "--save-images")
    for path in sorted((rice / "cloud").iterdir()):
        assert (read_image(tmp_path / "restored" / path.name) == read_image(path)).all()


def test_a_known_layout_its_part_and_chosen_bands(capsys, tmp_path, model):
    root = miniature.generate("sen12ms-cr", tmp_path, pairs=3, size=24)
    arguments = ["evaluate", "--model", model, "--data", root, "--dataset", "sen12ms-cr", "--split", "test", "--json"]
    code, out, err = run(capsys, *arguments, "--bands", "4,3,2", "--protocol", "standard")
    assert code == 0, err
    assert json.loads(out)["n"] == 1
    assert {"psnr", "ssim", "mae", "sam", "ergas"} <= set(json.loads(out)["metrics"])
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "--bands" in err


def test_two_runs_are_compared_image_by_image(capsys, rice, model, tmp_path):
    run(capsys, "evaluate", "--input", "--data", rice, "--out", tmp_path)
    for other in (tmp_path / "per_image.csv", tmp_path):
        arguments = ("--against", other, "--json")
        result = json.loads(run(capsys, "evaluate", "--input", "--data", rice, *arguments)[1])["against"]
        assert result["psnr"]["difference"] == 0
        assert result["psnr"]["p_value"] == 1


def test_a_run_is_compared_with_the_one_that_it_replaces(capsys, rice, model, tmp_path):
    run(capsys, "evaluate", "--input", "--data", rice, "--out", tmp_path)
    arguments = ("--model", model, "--data", rice, "--out", tmp_path, "--against", tmp_path, "--json")
    assert json.loads(run(capsys, "evaluate", *arguments)[1])["against"]["psnr"]["difference"] != 0


def test_what_is_no_run_to_compare_with_is_refused_before_anything_is_scored(capsys, rice, tmp_path):
    code, _, err = run(capsys, "evaluate", "--input", "--data", rice, "--out", tmp_path / "o", "--against", tmp_path)
    assert code == 1
    assert "Give a folder of `unclouded evaluate --out`" in err
    (tmp_path / "other.csv").write_text("stem,psnr\na,high\n")
    against = ("--against", tmp_path / "other.csv")
    code, _, err = run(capsys, "evaluate", "--input", "--data", rice, "--out", tmp_path / "o", *against)
    assert code == 1
    assert "not a per-image CSV" in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--metrics", "psnr,vif"], 2, "protocol paper has no metric 'vif'. It has: psnr, ssim,"),
        (["--metrics", "sam"], 2, "The protocol standard has it."),
        (["--metrics", "lpips"], 2, "Download https://download.pytorch.org/models/alexnet"),
        (["--metrics", "fid"], 2, "Download https://github.com/toshas/torch-fidelity"),
        (["--protocol", "mine"], 2, "no protocol 'mine'. Choose one of: paper, standard"),
        (["--split", "nowhere"], 2, "no split 'nowhere'"),
        (["--split", "rice2-val"], 1, "of 60 images that are not in"),
        (["--prior-only"], 2, "exclude each other"),
        (["--bands", "red"], 2, "not a list of band numbers"),
        (["--save-images"], 2, "Give --out"),
        (["--dataset", "rice9"], 2, "no data set 'rice9'"),
        (["--limit", "0"], 2, "--limit"),
    ],
)
def test_wrong_use_says_what_to_do(capsys, rice, arguments, code, said):
    got, out, err = run(capsys, "evaluate", "--input", "--data", rice, *arguments)
    assert (got, out) == (code, "")
    assert said in err


def test_an_unknown_model_and_an_absent_folder(capsys, rice, tmp_path):
    assert run(capsys, "evaluate", "--model", "nosuch", "--data", rice)[0] == 2
    code, _, err = run(capsys, "evaluate", "--input", "--data", tmp_path / "nowhere")
    assert code == 1
    assert "There is no folder" in err


def test_several_samples_are_checked_for_calibration(capsys, rice, model):
    code, out, err = run(capsys, "evaluate", "--model", model, "--data", rice, "--samples", 3, "--json")
    assert code == 0, err
    found = json.loads(out)["calibration"]
    assert len(found["scale"]) == 3
    assert -1 <= found["rank_correlation"] <= 1
    assert found["coverage_scaled"]["0.6827"] == pytest.approx([0.6827] * 3, abs=0.01)


def test_a_missing_backbone_is_a_sentence_and_not_a_silent_skip(capsys, rice):
    for option in ("--lpips", "--fid"):
        code, out, err = run(capsys, "evaluate", "--input", "--data", rice, option, "nowhere.pt")
        assert (code, out) == (2, "")
        assert "nowhere.pt" in err


def test_a_calibration_that_fails_costs_no_scores(capsys, rice, model, tmp_path):
    asked = ("evaluate", "--model", model, "--data", rice, "--samples", 2, "--limit", 1, "--out", tmp_path / "o")
    code, out, err = run(capsys, *asked, "--calibrate", tmp_path / "c.safetensors", "--json")
    assert code == 1
    assert "One image cannot show" in err
    assert json.loads(out) == json.loads((tmp_path / "o" / "summary.json").read_text())
    assert not (tmp_path / "c.safetensors").exists()


def test_a_calibrated_model_carries_its_factors_and_what_they_cover(capsys, rice, model, tmp_path):
    from unclouded.models import store
    from unclouded.restore import load

    target = tmp_path / "calibrated.safetensors"
    asked = ("evaluate", "--model", model, "--data", rice, "--samples", 3)
    code, out, err = run(capsys, *asked, "--calibrate", target, "--json")
    assert code == 0, err
    found = json.loads(out)["calibration"]
    card = store.read_card(target)
    assert len(card.spread_scale) == 3
    assert (card.calibration.samples, card.calibration.images, card.calibration.data) == (3, 4, rice.name)
    assert len(card.calibration.coverage_held_out) == 3
    assert {name: list(bins) for name, bins in card.calibration.reliability.items()} == found["reliability"]
    assert card.calibration.coverage_apart == found["coverage_apart"]
    assert card.calibration.rank_correlation_within == found["rank_correlation_within"]
    y, three = torch.rand(1, 3, 24, 24), Sampling(steps=2, samples=3)
    before, after = (load(str(path), device="cpu").restore(y, sampling=three) for path in (model, target))
    torch.testing.assert_close(after.clear, before.clear, rtol=0, atol=0)  # the weights are the same bits
    factors = torch.tensor(card.spread_scale)[:, None, None]
    torch.testing.assert_close(after.spread, before.spread * factors, rtol=1e-5, atol=1e-8)
    again = json.loads(run(capsys, *asked[:1], "--model", target, *asked[3:], "--json")[1])["calibration"]
    assert again["scale"] == pytest.approx([1.0] * 3, rel=1e-5)  # what ± says now is what is found
    assert run(capsys, *asked, "--calibrate", target)[0] == 1  # is not replaced unasked
    second = tmp_path / "second.safetensors"
    run(capsys, *asked[:1], "--model", target, *asked[3:], "--calibrate", second)
    assert store.read_card(second).spread_scale == pytest.approx(card.spread_scale)  # not multiplied twice
    shown = run(capsys, "models", "info", target)[1]
    assert "3 samples on 4 images" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--samples", "1"], "One sample has no spread"),
        (["--samples", "2", "--prior-only"], "for the model itself"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_the_work(capsys, rice, model, tmp_path, options, said):
    target = tmp_path / "m.safetensors"
    code, _, err = run(capsys, "evaluate", "--model", model, "--data", rice, "--calibrate", target, *options)
    assert code == 2
    assert said in err
    assert not target.exists()

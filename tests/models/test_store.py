"""The model file: what is saved comes back with its card; what does not fit is named; nothing is unpickled."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.card import ModelCard, SpreadCalibration, spread_meaning
from unclouded.models.de import DE, DEConfig, paper_config
from unclouded.models.end_to_end import EndToEnd, EndToEndConfig
from unclouded.models.registry import build_model, build_prior
from unclouded.models.unet import UNetConfig
from unclouded.sampling import Sampling
from unclouded.scenes.bands import BandSet

TINY_PRIOR = {"channels": (8, 8), "blocks": (1, 1)}


def tiny(bands: int = 3) -> DE:
    network = {"channels": 8, "res_blocks": 1, "multipliers": (1, 1), "attention": (), "heads": 1}
    return DE(
        DEConfig(
            bands=bands,
            prior="light",
            prior_options=TINY_PRIOR,
            cnp=UNetConfig(2 * bands, bands, **network),
            wa=UNetConfig(3 * bands, bands, **network),
        )
    )


def card_of(model: DE) -> ModelCard:
    names = [f"band{i}" for i in range(model.bands)]
    architecture = json.loads(model.config.model_dump_json())
    return ModelCard(name="tiny", method="de", architecture=architecture, bands=BandSet.display(*names))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = tiny()
    store.save(tmp_path / "tiny.safetensors", model, card_of(model), dtype=torch.float32)
    return tmp_path / "tiny.safetensors"


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
def test_a_model_comes_back_with_its_card_and_its_answers(tmp_path: Path, bands: int) -> None:
    model = tiny(bands).eval()
    store.save(tmp_path / "m.safetensors", model, card_of(model), dtype=torch.float32)
    loaded, card = store.load(tmp_path / "m.safetensors")
    assert card == card_of(model)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)
    y = torch.rand(1, bands, 9, 7)
    torch.testing.assert_close(loaded.reference(y), model.reference(y), rtol=0, atol=0)


def test_half_precision_is_the_default_and_is_used_as_float32(tmp_path: Path) -> None:
    model = tiny()
    store.save(tmp_path / "m.safetensors", model, card_of(model))
    assert {t.dtype for t in load_file(tmp_path / "m.safetensors").values()} == {torch.float16}
    loaded, _ = store.load(tmp_path / "m.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.half().float(), rtol=0, atol=0)


def test_tensors_that_a_network_shares_are_stored_once(tmp_path: Path) -> None:
    prior = EndToEnd(EndToEndConfig(bands=3, prior="memorynet"))
    card = ModelCard(
        name="m",
        method="prior",
        architecture=json.loads(prior.config.model_dump_json()),
        bands=BandSet.display("red", "green", "blue"),
    )
    store.save(tmp_path / "m.safetensors", prior, card, dtype=torch.float32)
    loaded, _ = store.load(tmp_path / "m.safetensors")
    for name, tensor in prior.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def _tamper(path: Path, change: str) -> None:
    card = store.read_card(path).model_dump_json()
    tensors = load_file(path)
    first = sorted(tensors)[0]
    if change == "missing":
        del tensors[first]
    elif change == "unknown":
        tensors["stranger"] = torch.zeros(1)
    else:
        tensors[first] = torch.zeros(1, 2, 3)
    save_file(tensors, path, {store.CARD_KEY: card})


@pytest.mark.parametrize(("change", "message"), [("missing", "lacks"), ("unknown", "stranger"), ("shape", "shape")])
def test_a_tensor_that_does_not_fit_is_named(saved: Path, change: str, message: str) -> None:
    _tamper(saved, change)
    with pytest.raises(UncloudedError, match=message):
        store.load(saved)


def test_a_truncated_file_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(UncloudedError, match="not a whole"):
        store.load(saved)


def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return (tmp_path / "ran").touch, ()

    path = tmp_path / "bomb.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UncloudedError):
        store.load(path)
    assert not (tmp_path / "ran").exists()


def test_a_file_without_card_says_how_to_import_it(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UncloudedError, match="models import"):
        store.load(tmp_path / "a.safetensors")


def test_a_card_of_an_impossible_architecture_is_refused(saved: Path) -> None:
    card = json.loads(store.read_card(saved).model_dump_json())
    card["architecture"]["bands"] = 4  # but the CNP still takes 2 × 3
    save_file(load_file(saved), saved, {store.CARD_KEY: json.dumps(card)})
    with pytest.raises(UncloudedError, match="the CNP must take 8 channels"):
        store.load(saved)


def test_unknown_names_list_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    (tmp_path / "base.safetensors").touch()
    assert store.resolve("base") == tmp_path / "base.safetensors"
    with pytest.raises(UsageError, match=r"no model named 'bse'.* base"):
        store.resolve("bse")
    with pytest.raises(UncloudedError, match="no model file"):
        store.resolve("absent.safetensors")
    with pytest.raises(UsageError, match=r"no prior named 'x'.*light"):
        build_prior("x")
    with pytest.raises(UsageError, match=r"cannot be built: width: .* It takes bands, channels, blocks, gain\."):
        build_prior("light", width=3)
    with pytest.raises(UsageError, match="gain: Input should be a valid boolean"):
        build_prior("light", gain="maybe")
    with pytest.raises(UsageError, match=r"channels\.1: Input should be a valid integer"):
        build_prior("light", channels=[24, "wide"])
    with pytest.raises(UsageError, match="no method named 'x'"):
        build_model("x", {})


def test_a_card_whose_sizes_make_no_network_is_refused():
    sizes = store.read_card(store.resolve("base")).architecture
    sizes = sizes | {"prior_options": sizes["prior_options"] | {"channels": [24, -1, 96, 192]}}
    with pytest.raises(UncloudedError, match=r"of these sizes cannot be built .* Use a model file"):
        build_model("de", sizes)


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(UncloudedError, match="cannot be written"):
        store.write_atomically(tmp_path / "absent" / "file", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UncloudedError):
        store.write_atomically(tmp_path / "folder", b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder"]


def test_the_papers_configuration_has_36_80_million_parameters() -> None:
    config = paper_config(prior="light")  # the prior is not counted
    model = DE(config.model_copy(update={"prior_options": TINY_PRIOR}))
    networks = [*model.cnp.parameters(), *model.wa.parameters()]  # type: ignore[union-attr]
    assert round(sum(p.numel() for p in networks) / 1e6, 2) == 36.80


def test_qualities_are_points_of_the_card() -> None:
    # of the model, however it is sampled
    own = {
        "weight_floor": 0.6,
        "weight_ceiling": 0.9,
        "weight_tolerance": 0.1,
        "margin": 8,
        "scale_share": 0.4,
        "tile": 512,
    }
    seen = {"self_ensemble": 2, "scales": 3}
    sampling = Sampling(sampler="dpm", steps=5, spacing="trailing", start=300, **seen, **own)
    card = card_of(tiny()).model_copy(update={"sampling": sampling})
    assert card.at("paper") == Sampling(sampler="ddim", steps=50, spacing="leading", **seen, **own)
    assert card.at("balanced") == card.sampling
    assert card.at("fast") == Sampling(sampler="dpm", steps=2, spacing="trailing", start=300, **own)
    measured = Sampling(sampler="unipc", steps=1, start=400)
    assert card.model_copy(update={"fast": measured}).at("fast") == measured
    with pytest.raises(UsageError, match="Choose one of: fast, balanced, paper"):
        card.at("best")


def test_factors_of_the_spread_are_positive_and_one_a_band() -> None:
    card = card_of(tiny())
    for factors in ((1.0,), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(ValueError, match="factors of the spread"):
            ModelCard(**{**dict(card), "spread_scale": factors})


def test_what_the_spread_means_is_said_with_the_samples_it_was_measured_for() -> None:
    card = card_of(tiny())
    assert "not compared with true errors" in spread_meaning(card, 4)
    made = SpreadCalibration(
        data="d", split="val", split_hash="h", images=60, samples=8, level=0.6827, coverage_raw=(0.2, 0.3, 0.25),
        coverage_held_out=(0.68, 0.67, 0.69), rank_correlation=0.5,
    )  # fmt: skip
    card = card.model_copy(update={"spread_scale": (2.0, 3.0, 4.0), "calibration": made})
    text = spread_meaning(card, 8)
    assert "8 samples on 60 images of val" in text
    assert "covers 67 to 69 % of the pixels (nominally 68 %), without the factor 20 to 30 %" in text
    assert "not measured" not in text
    assert "For 4 samples that was not measured." in spread_meaning(card, 4)

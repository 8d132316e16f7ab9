"""`unclouded models` as a user calls it: outputs, exit codes, messages."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from unclouded.cli import main
from unclouded.models import store
from unclouded.models.authors_keys import SPAGAN
from unclouded.models.card import TrainingRecord
from unclouded.models.registry import build_prior


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs one command in an empty folder: code, out, err."""
    monkeypatch.chdir(tmp_path)

    def call(*args):
        with pytest.raises(SystemExit) as exit_:
            main(["models", *map(str, args)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return SimpleNamespace(code=exit_.value.code, out=out, err=err)

    return call


@pytest.fixture
def checkpoint(tmp_path):
    """A SpA-GAN file as its author writes it, with one tensor that has no effect; and the network in it."""
    network = build_prior("spagan", bands=4)
    state = {"gen.gen." + SPAGAN.theirs(ours): t for ours, t in network.state_dict().items()}
    state["gen.gen.SAM1.conv_in.weight"] = torch.ones(32, 32, 3, 3)
    torch.save(state, tmp_path / "spagan.pth")
    return tmp_path / "spagan.pth", network


def test_import_then_info_then_use(run, checkpoint, tmp_path):
    path, network = checkpoint
    made = run("import", path, "mine.safetensors", "--json")
    assert made.code == 0
    summary = json.loads(made.out)
    assert summary["kinds"] == ["spagan"]
    assert summary["skipped"] == ["SAM1.conv_in.weight"]
    assert summary["parameters"]["total"] == sum(p.numel() for p in network.parameters())
    found = json.loads(run("info", "mine.safetensors", "--json").out)
    assert (found["name"], found["method"], found["licence"]) == ("mine", "prior", "MIT")
    assert found["bands"]["names"] == ["red", "green", "blue", "nir"]
    y = torch.rand(1, 4, 9, 9)
    model, _ = store.load(tmp_path / "mine.safetensors")
    with torch.no_grad():
        assert torch.equal(model.reference(y), network(y))  # the file was float32 and stays so


def test_info_says_what_a_model_was_trained_from(run, checkpoint, tmp_path):
    run("import", checkpoint[0], "mine.safetensors")
    path = tmp_path / "mine.safetensors"
    mean = TrainingRecord(recipe="first", note="a mean of two")
    first = TrainingRecord(recipe="first", steps={"prior": 7}, commit="0123456789abcdef", init=mean)
    second = TrainingRecord(recipe="second", data=("alps",), init=first, note="pruned")
    store.with_card(path, path, store.read_card(path).model_copy(update={"training": second}))
    shown = run("info", path).out
    assert "trained      second on alps\n" in shown
    assert "note         pruned\n" in shown
    assert "started from first (prior 7 steps, commit 0123456789ab)\n  started from a mean of two\n" in shown


def test_text_goes_where_people_look(run, checkpoint):
    path, _ = checkpoint
    made = run("import", path, "mine.safetensors", "--name", "my-gan", "--licence", "CC0")
    assert made.out == ""
    assert "SpA-GAN, 4 bands, 0.20 M parameters" in made.err
    assert "Left out 1 tensors that have no effect: SAM1.conv_in.weight" in made.err
    text = run("info", "mine.safetensors").out
    for part in ("my-gan: The authors' weights of SpA-GAN", "red, green, blue, nir", "CC0", "prior 0.20 M", "sha256"):
        assert part in text


def test_export_gives_the_same_numbers(run, checkpoint, tmp_path):
    path, network = checkpoint
    run("import", path, "mine.safetensors")
    assert run("export", "mine.safetensors", "whole.safetensors", "--dtype", "fp16").code == 0
    model, card = store.load(tmp_path / "whole.safetensors")
    assert json.loads((tmp_path / "whole.json").read_text()) == card.model_dump(mode="json")
    half = {name: t.half() for name, t in network.state_dict().items()}
    assert all(torch.equal(t, half[n.removeprefix("prior.")].float()) for n, t in model.state_dict().items())
    made = run("export", "mine.safetensors", "prior.pt", "--part", "prior", "--json")
    assert [name.rpartition("/")[2] for name in json.loads(made.out)["written"]] == ["prior.pt", "prior.json"]
    network.load_state_dict(torch.load(tmp_path / "prior.pt", weights_only=True))  # strict: exactly these
    assert load_file(tmp_path / "whole.safetensors").keys() == model.state_dict().keys()


def test_de_with_its_prior(run, golden_dir, tmp_path):
    de, prior = golden_dir / "de_rgb.weights.safetensors", golden_dir / "msda_rgb.weights.safetensors"
    alone = run("import", de, "de.safetensors")
    assert (alone.code, (tmp_path / "de.safetensors").exists()) == (2, False)
    assert "--prior" in alone.err
    made = run("import", de, "de.safetensors", "--prior", prior, "--json")
    assert json.loads(made.out)["kinds"] == ["de", "msda"]
    model, card = store.load(tmp_path / "de.safetensors")
    assert (card.method, model.config.prior) == ("de", "msda")
    stored = load_file(de)
    assert torch.equal(model.cnp.state_dict()["head.2.weight"], stored["out.2.weight"].float())


def test_list_names_the_shipped_models(run):
    rows = json.loads(run("list", "--json").out)
    assert [row["name"] for row in rows] == list(store.shipped())
    text = run("list")
    assert all(name in text.out for name in store.shipped())
    assert text.code == 0


def test_nothing_is_overwritten_or_lost(run, checkpoint, tmp_path):
    path, _ = checkpoint
    (tmp_path / "there.safetensors").write_text("precious")
    kept = run("import", path, "there.safetensors")
    assert (kept.code, (tmp_path / "there.safetensors").read_text()) == (1, "precious")
    assert "--overwrite" in kept.err
    assert run("import", path, "there.safetensors", "--overwrite").code == 0
    assert "is an input itself" in run("export", "there.safetensors", "there.safetensors", "--overwrite").err
    assert run("import", path, "no/such/folder.safetensors").code == 1


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("info", "nonesuch"), 2, "no model named 'nonesuch'"),
        (("info", "absent.safetensors"), 1, "no model file absent.safetensors"),
        (("info", "broken.safetensors"), 1, "not a whole .safetensors file"),
        (("info", "bare.safetensors"), 1, "no unclouded model card"),
        (("info", "code.pt"), 1, "not a whole .safetensors file"),
        (("import", "code.pt", "o.safetensors"), 1, "pickle with code"),
        (("import", "bare.safetensors", "o.safetensors"), 1, "no network known here"),
        (("import", "spagan.pth", "o.safetensors", "--kind", "gan"), 2, "no kind of checkpoint named 'gan'"),
        (("import", "spagan.pth", "o.safetensors", "--band-names", "red,nir"), 2, "2 band names (red, nir) for 4"),
        (("import", "spagan.pth", "o.pt"), 2, "ends in .safetensors"),
        (("export", "good.safetensors", "o.onnx"), 2, "no known format"),
        (("export", "good.safetensors", "."), 2, "no known format"),
        (("export", "good.safetensors", "o.pt", "--part", "wa"), 2, "no part 'wa'"),
        (("export", "lacking.safetensors", "o.pt"), 1, "lacks prior.conv_in.weight"),
        (("info", "more.safetensors"), 1, "unknown tensor extra"),
    ],
)
def test_bad_input_gives_one_message(run, checkpoint, tmp_path, args, code, message):
    path, _ = checkpoint
    run("import", path, "good.safetensors")
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes()[:5000])
    save_file({"a": torch.ones(2)}, tmp_path / "bare.safetensors")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pt")
    header = {store.CARD_KEY: store.read_card(tmp_path / "good.safetensors").model_dump_json()}
    tensors = load_file(tmp_path / "good.safetensors")
    save_file({**tensors, "extra": torch.ones(1)}, tmp_path / "more.safetensors", header)
    tensors.pop("prior.conv_in.weight")
    save_file(tensors, tmp_path / "lacking.safetensors", header)
    result = run(*args)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("Error:") == 1
    assert not list(tmp_path.glob("o.*"))


def test_thin_and_thick_are_other_names_of_base(run):
    assert store.resolve("thin") == store.resolve("thick") == store.shipped()["base"]
    assert "(also: thin, thick)" in run("list").out

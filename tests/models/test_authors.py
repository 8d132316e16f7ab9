"""Importing the authors' files: recognition, exactness, and one clear message for each way a file can be wrong."""

import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from unclouded.diffusion.denoisers import Weighing
from unclouded.errors import UncloudedError, UsageError
from unclouded.models.authors import assemble, import_checkpoint
from unclouded.models.authors_files import read_state
from unclouded.models.authors_keys import MEMORYNET, MSDA, SPAGAN
from unclouded.models.registry import build_prior

TABLES = {"memorynet": MEMORYNET, "msda": MSDA, "spagan": SPAGAN}


def authors_state(kind, bands=3):
    """A file as the authors' code writes it, from one of our networks with fresh weights."""
    network = build_prior(kind, bands=bands)
    return network, {TABLES[kind].theirs(ours): t.clone() for ours, t in network.state_dict().items()}


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("kind", TABLES)
def test_round_trip_with_any_band_count(tmp_path, kind, bands):
    network, state = authors_state(kind, bands)
    assert len(state) == len(network.state_dict())  # no two tensors share a name
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": t for k, t in state.items()}}, tmp_path / "a.pth")
    imported = import_checkpoint(tmp_path / "a.pth", band_order="rgb")
    assert (imported.kind, imported.bands, imported.skipped) == (kind, bands, ())
    y = torch.rand(1, bands, 16, 16)
    with torch.no_grad():
        assert torch.equal(imported.parts["prior"](y), network(y))


@pytest.mark.parametrize("file", ["memorynet_rgb", "msda_rgb", "spagan_rice1"])
def test_tables_cover_the_authors_files(golden_dir, file):
    """Every key of the real file is used, a copy, or left out on purpose; wrappers and prefixes do not matter."""
    state = read_state(golden_dir / f"{file}.weights.safetensors")
    imported = import_checkpoint(golden_dir / f"{file}.weights.safetensors")
    table = TABLES[imported.kind]
    network = imported.parts["prior"]
    used = {table.theirs(ours) for ours in network.state_dict()}
    keys = {key.removeprefix("gen.gen.") for key in state}
    assert used <= keys
    assert {key for key in keys - used if not table.is_copy(key)} == set(imported.skipped)


@pytest.fixture(scope="module")
def de_state(golden_dir):
    return load_file(golden_dir / "de_rgb.weights.safetensors")


def test_de_with_its_prior_is_one_model(golden_dir, golden):
    """Reference, fusion and unclamped W of the assembled model are the authors'."""
    de = import_checkpoint(golden_dir / "de_rgb.weights.safetensors")
    prior = import_checkpoint(golden_dir / "msda_rgb.weights.safetensors")
    model = assemble(de, prior)
    assert (model.config.prior, model.bands, de.dtype) == ("msda", 3, torch.float16)
    io = golden("de_rgb")
    with torch.no_grad():
        w = model.denoiser(io["cloudy"], io["reference"], Weighing(None))(io["x_t"], io["t"]).w
        torch.testing.assert_close(w, io["w"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            model.reference(golden("msda_rgb")["x"]), golden("msda_rgb")["y"], rtol=1e-4, atol=1e-6
        )


def test_pure_diffusion_and_combinations_that_do_not_fit(golden_dir, de_state, tmp_path):
    save_file({k: t for k, t in de_state.items() if not k.startswith("sjlnet.")}, tmp_path / "coarse.safetensors")
    coarse = import_checkpoint(tmp_path / "coarse.safetensors")
    whole = import_checkpoint(golden_dir / "de_rgb.weights.safetensors")
    network, _ = authors_state("spagan", bands=4)
    prior = replace(import_checkpoint(golden_dir / "spagan_rice1.weights.safetensors"))
    assert (assemble(coarse).wa, assemble(coarse).prior) == (None, None)
    for parts, message in (
        ((whole,), "Give the prior's file"),
        ((coarse, prior), "pure diffusion"),
        ((prior, prior), "takes no prior"),
        ((whole, coarse), "no reference prior"),
        ((whole, replace(prior, bands=4, parts={"prior": network})), "has 3 bands, the prior 4"),
    ):
        with pytest.raises(UsageError, match=message):
            assemble(*parts)


def test_four_band_files_differ_in_the_first_and_last_convolutions_only(de_state, tmp_path):
    ends = {"input_blocks.0.0.weight": (32, 8, 3, 3), "out.2.weight": (4, 32, 3, 3), "out.2.bias": (4,)}
    ends |= {"sjlnet.input_blocks.0.0.weight": (64, 12, 3, 3), "sjlnet.out.2.weight": (4, 64, 3, 3)}
    ends |= {"sjlnet.out.2.bias": (4,)}
    save_file({**de_state, **{key: torch.rand(shape) for key, shape in ends.items()}}, tmp_path / "de.safetensors")
    _, state = authors_state("msda", bands=4)
    save_file(state, tmp_path / "msda.safetensors")
    model = assemble(import_checkpoint(tmp_path / "de.safetensors"), import_checkpoint(tmp_path / "msda.safetensors"))
    assert (model.bands, model.cnp.config.in_channels, model.wa.config.in_channels) == (4, 8, 12)


@pytest.mark.parametrize(
    "key",
    [
        "input_blocks.4.0.in_layers.2.weight",
        "output_blocks.5.1.qkv.bias",
        "middle_block.1.norm.weight",
        "sjlnet.output_blocks.2.2.conv.weight",
        "out.0.bias",
    ],
)
def test_a_missing_tensor_of_de_is_named_as_the_authors_do(de_state, tmp_path, key):
    save_file({k: t for k, t in de_state.items() if k != key}, tmp_path / "de.safetensors")
    with pytest.raises(UncloudedError, match=f"lacks {key},"):
        import_checkpoint(tmp_path / "de.safetensors")
    save_file({**de_state, key: torch.ones(7, 7, 7)}, tmp_path / "de.safetensors")
    with pytest.raises(UncloudedError, match=f"another shape of {key},"):
        import_checkpoint(tmp_path / "de.safetensors")


def test_diffcr_beside_a_stored_schedule(golden_dir, tmp_path):
    """A training checkpoint holds the network under a prefix and its noise schedule beside it."""
    state = load_file(golden_dir / "diffcr_rgb.weights.safetensors")
    whole = {f"denoise_fn.{key}": tensor for key, tensor in state.items()}
    torch.save({**whole, "gammas": torch.ones(5), "sqrt_recip_gammas": torch.ones(5)}, tmp_path / "ema.pth")
    imported = import_checkpoint(tmp_path / "ema.pth")
    assert (imported.kind, imported.bands, imported.options["width"]) == ("diffcr", 3, 16)
    assert imported.skipped == ("cond_downs.3.bias", "cond_downs.3.weight")
    model = assemble(imported)
    assert (model.config.time, model.config.frames) == ("published", 3)
    assert torch.equal(model.network.outro.weight, state["ending.weight"].float())
    whole.pop("denoise_fn.decoders.2.0.sca_max.1.bias")
    torch.save(whole, tmp_path / "ema.pth")
    with pytest.raises(UncloudedError, match=r"lacks decoders.2.0.sca_max.1.bias,"):
        import_checkpoint(tmp_path / "ema.pth")


@pytest.fixture
def spagan_file(tmp_path):
    """Writes a SpA-GAN file after a change to its state dict."""

    def write(change):
        _, state = authors_state("spagan")
        change(state)
        save_file(state, tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors"

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("res_block7.group1.conv2.weight"), "lacks res_block7.group1.conv2.weight,"),
        (lambda s: s.update(extra=torch.ones(1)), "unknown tensor extra,"),
        (lambda s: s.update({"SAM1.conv2.bias": torch.ones(5)}), "another shape of SAM1.conv2.bias,"),
        (lambda s: s.update({"conv_out.0.weight": torch.ones(4, 32, 3, 3)}), "another shape of conv_out.0.weight,"),
        (lambda s: s.update({"conv_in.0.weight": torch.ones(5)}), "another shape of conv_in.0.weight,"),
        (lambda s: s.pop("conv_in.0.weight"), "lacks conv_in.0.weight,"),
        (lambda s: s["SAM1.conv2.bias"].fill_(float("nan")), "not finite in SAM1.conv2.bias,"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(spagan_file, change, message):
    with pytest.raises(UncloudedError, match=message):
        import_checkpoint(spagan_file(change))


def test_slopes_that_should_be_one_must_be_equal(tmp_path):
    _, state = authors_state("memorynet")
    state["stage3_orsnet.orb2.body.4.body.1.weight"] = state["shallow_feat1.1.body.1.weight"] + 1
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(UncloudedError, match=r"differs in stage3_orsnet\.orb2\.body\.4\.body\.1\.weight"):
        import_checkpoint(tmp_path / "m.safetensors")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", ["zip", "legacy", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, writer):
    trap, file = tmp_path / "ran", tmp_path / "weights.pt"
    content = {"state_dict": Malicious(str(trap))}
    if writer == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(UncloudedError, match="pickle with code in it"):
        read_state(file)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 broken", b"\xff" * 8 + b"{" + b"x" * 99])
def test_what_is_no_weight_file_is_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UncloudedError, match=r"(?s)w\.pt is .*\. (Give|Fetch)"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused(tmp_path, zipped):
    torch.save({"a": torch.rand(100, 100)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UncloudedError, match="corrupt"):
        read_state(tmp_path / "w.pt")


def test_other_messages(tmp_path):
    with pytest.raises(UncloudedError, match="No such file"):
        read_state(tmp_path / "absent.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(UncloudedError, match="holds no tensors"):
        read_state(tmp_path / "empty.pt")
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(UncloudedError, match=r"no network known here \(the first is fc.weight\)"):
        import_checkpoint(tmp_path / "other.pt")
    with pytest.raises(UncloudedError, match="lacks the tensor SAM1"):
        import_checkpoint(tmp_path / "other.pt", kind="spagan")
    with pytest.raises(UsageError, match="no kind of checkpoint named 'resnet'"):
        import_checkpoint(tmp_path / "other.pt", kind="resnet")
    with pytest.raises(UsageError, match="band order 'grb'"):
        import_checkpoint(tmp_path / "other.pt", band_order="grb")

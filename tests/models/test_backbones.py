"""Weights that the user fetched: what fits is taken, and what does not is refused in a sentence."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unclouded.errors import UncloudedError, UsageError
from unclouded.models.backbones import fill


def _network() -> nn.Linear:
    return nn.Linear(3, 2)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_after_the_prefix_are_taken_and_others_left(tmp_path: Path, suffix: str) -> None:
    source, path = _network(), tmp_path / f"net{suffix}"
    tensors = {f"features.{name}": tensor for name, tensor in source.state_dict().items()}
    tensors["classifier.weight"] = torch.zeros(1)
    (save_file if suffix == ".safetensors" else torch.save)(tensors, path)
    network = _network()
    fill(network, path, "a line", "Fetch it.", prefix="features.")
    torch.testing.assert_close(network.state_dict(), source.state_dict())


def test_an_absent_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no network file .*nowhere\.pth\. Fetch it\."):
        fill(_network(), tmp_path / "nowhere.pth", "a line", "Fetch it.")


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello\n", b"not weights", b"PK\x03\x04", pickle.dumps(Path("x"))])
def test_any_other_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UncloudedError, match=r"cannot be read as weights\. Fetch it\."):
        fill(_network(), tmp_path / name, "a line", "Fetch it.")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (torch.zeros(2), "holds no weights by name"),
        ({"other": torch.zeros(2)}, "does not hold a line"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "does not hold a line"),
    ],
)
def test_another_network_is_refused(tmp_path: Path, held: object, message: str) -> None:
    torch.save(held, tmp_path / "x.pth")
    with pytest.raises(UncloudedError, match=rf"{message}\. Fetch it\."):
        fill(_network(), tmp_path / "x.pth", "a line", "Fetch it.")

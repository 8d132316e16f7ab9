"""The weights of networks that others trained and publish (AlexNet, Inception, VGG16), from files that the user
fetched. What such a network is for, and where to get its file, says the module that defines it."""

from pathlib import Path

import torch
from torch import Tensor, nn

from unclouded.errors import UncloudedError, UsageError


def fill(network: nn.Module, path: str | Path, what: str, where: str, prefix: str = "") -> None:
    """Give `network` its weights, which the file has under the same names after `prefix`.

    Raises as `read_weights` does, and UncloudedError for another network's file; `what` the file should hold, and
    `where` to get it, are said then.
    """
    tensors = read_weights(path, where)
    try:
        network.load_state_dict({name: tensors[prefix + name] for name in network.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise UncloudedError(f"{path} does not hold {what}. {where}") from error


def read_weights(path: str | Path, where: str) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file by name; code in it is not run.

    Raises UsageError if the file is absent and UncloudedError if it holds no such thing, saying `where` to get it.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"There is no network file {path}. {where}")
    try:
        tensors = _read(path)
    except Exception as error:  # both libraries raise many kinds for what is no such file
        raise UncloudedError(f"{path} cannot be read as weights. {where}") from error
    if not isinstance(tensors, dict):
        raise UncloudedError(f"{path} holds no weights by name. {where}")
    return tensors


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)

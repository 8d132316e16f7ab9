"""Reads the tensors of a checkpoint (.pt, .pth, .safetensors) without ever running code that a file may hold."""

import pickle
import re
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unclouded.errors import UncloudedError

State = dict[str, Tensor]

# Where training programs keep the weights inside a checkpoint, in the order of preference.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "params_ema",
    "ema",
    "params",
    "model",
    "net",
    "network",
    "generator",
    "gen",
)
WHAT_FITS = "Give a file of the authors' DE, DiffCR, MSDA-CR, MemoryNet or SpA-GAN weights"
CODE = (
    "Nothing was run or loaded. Ask its author for a state dict or a .safetensors file, "
    "or save `torch.load(...).state_dict()` yourself if you trust it"
)


def read_state(path: str | PathLike[str]) -> State:
    """The tensors of a checkpoint on the CPU, as stored, under the keys of the file; wrappers around them are taken
    off.

    Raises UncloudedError if the file is missing, corrupt, holds no tensors, or is a pickle with anything but plain
    values.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UncloudedError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    found = _read_safetensors(path) if head[8:] == b"{" else _read_torch(path, head)
    state = _unwrap(found)
    if not state:
        raise UncloudedError(f"{path} holds no tensors. {WHAT_FITS}.")
    return state


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UncloudedError(f"{path} is not a whole .safetensors file ({error}). Fetch it again.") from error


def _read_torch(path: Path, head: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what cannot be read raises anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if head.startswith((b"PK", b"\x80")):
            name = re.search(r"GLOBAL:? ([\w.]+)", str(error))
            what = f"asks for {name[1]}" if name else "is more than tensors and plain values"
            raise UncloudedError(f"{path} is a pickle with code in it: it {what}. {CODE}.") from error
        raise UncloudedError(f"{path} is not a weight file. {WHAT_FITS}.") from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise UncloudedError(f"{path} is corrupt or no weight file. Fetch it again. {WHAT_FITS}.") from error


def _unwrap(found: Any) -> State:
    """The innermost dict of tensors; what else a checkpoint holds (epoch, optimizer, …) is not ours."""
    if not isinstance(found, Mapping):
        return {}
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    for key in WRAPPERS:
        inner = _unwrap(found.get(key))
        if len(inner) > len(tensors):
            return inner
    return tensors

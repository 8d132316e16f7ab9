"""Checkpoints of one stage: written whole or not at all, read without unpickling code."""

import io
from pathlib import Path
from typing import Any

import torch

from unclouded.errors import UncloudedError
from unclouded.models.store import write_atomically

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """`state`: tensors, numbers, strings and containers of them."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote; UncloudedError if it is damaged or of another recipe."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise UncloudedError(f"The checkpoint {path} cannot be read. Delete it to train this stage anew.") from error
    if state.get("format") != FORMAT:
        raise UncloudedError(f"The checkpoint {path} is of another version. Train into another --out folder.")
    changed = [key for key in recipe if recipe[key] != state["recipe"].get(key)]
    if changed:
        raise UncloudedError(
            f"{path} was made with another value of {', '.join(changed)}. "
            "Give the same recipe and --set, or another --out folder."
        )
    return state

"""Model files: one .safetensors whose header carries the card. Nothing is ever unpickled.

Weights are stored in half precision unless asked otherwise and are always used in float32 (or what autocast makes of
it).
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from unclouded.errors import UncloudedError, UsageError, first_problem
from unclouded.models.card import ModelCard

if TYPE_CHECKING:
    import torch

    from unclouded.models.base import RestorationModel

CARD_KEY = "unclouded"
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
OTHER_NAMES = {"thin": "base", "thick": "base"}  # one network serves both (docs/models.md)


def shipped() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a shipped model's name, of a path, or of hf://OWNER/NAME (models/hub.py); UsageError names the known
    models."""
    name = os.fspath(name_or_path)
    if path := shipped().get(OTHER_NAMES.get(name, name)):
        return path
    if name.startswith("hf://"):
        from unclouded.models.hub import fetch

        return fetch(name)
    path = Path(name)
    if path.is_file():
        return path
    known = ", ".join(shipped()) or "none in this installation"
    if path.suffix or len(path.parts) > 1:
        raise UncloudedError(f"There is no model file {name}. Check the path, or use a shipped model: {known}.")
    raise UsageError(
        f"There is no model named {name!r}. Use one of: {known}; the path of a model file; or hf://OWNER/NAME."
    )


def sha256(path: Path) -> str:
    """The hash that provenance tags carry."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(
    path: str | os.PathLike[str],
    model: "RestorationModel",
    card: ModelCard,
    dtype: "torch.dtype | None" = None,
) -> None:
    """Write `model` and its card to `path`, whole or not at all. `dtype` defaults to half precision.

    Tensors that a network shares between places are stored once, under their first name.
    """
    import torch
    from safetensors.torch import save as to_bytes

    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen and tensor.numel():
            continue
        seen.add(tensor.data_ptr())
        kept = tensor.to(dtype or torch.float16) if tensor.is_floating_point() else tensor
        tensors[name] = kept.detach().cpu().contiguous()
    write_atomically(Path(path), to_bytes(tensors, {CARD_KEY: card.model_dump_json()}))


def with_card(source: str | os.PathLike[str], target: Path, card: ModelCard) -> None:
    """Write the weights of `source`, as they are stored, with another card to `target`."""
    from safetensors.torch import load_file
    from safetensors.torch import save as to_bytes

    write_atomically(target, to_bytes(load_file(source), {CARD_KEY: card.model_dump_json()}))


def write_atomically(path: Path, content: bytes) -> None:
    """`path` holds all of `content` or what it held before."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UncloudedError(
            f"{path} cannot be written: {error.strerror}. Choose a folder with room and rights."
        ) from error


def read_card(path: str | os.PathLike[str]) -> ModelCard:
    """The card in the header of a model file, without reading its weights."""
    from pydantic import ValidationError
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UncloudedError(
            f"{path} is not a whole .safetensors file ({error}). Fetch it again, or, if it holds the authors' weights, "
            "convert it with `unclouded models import`."
        ) from error
    if CARD_KEY not in metadata:
        raise UncloudedError(
            f"{path} carries no unclouded model card. "
            "If it holds the authors' weights, convert it with `unclouded models import`."
        )
    try:
        return ModelCard.model_validate_json(metadata[CARD_KEY])
    except ValidationError as error:
        problem = first_problem(error)
        raise UncloudedError(
            f"The card of {path} is not valid ({problem.where}: {problem.what}). Fetch the file again, "
            "or update unclouded."
        ) from error


def load(path: str | os.PathLike[str]) -> "tuple[RestorationModel, ModelCard]":
    """Build the model that the file's card describes and give it the file's weights, in float32, in evaluation mode.

    Raises UncloudedError if the file is corrupt, or if a tensor is missing, unknown or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from unclouded.models.registry import build_model

    card = read_card(path)
    model = build_model(card.method, card.architecture)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UncloudedError(f"The weights in {path} cannot be read ({error}). Fetch the file again.") from error
    fill(model, tensors, str(path))
    model.eval()
    return model, card


def fill(model: "RestorationModel", tensors: "dict[str, torch.Tensor]", source: str) -> None:
    """Give `model` exactly these tensors (shared ones once); the first that does not fit is named in the
    UncloudedError."""
    import torch

    own = model.state_dict()
    groups: dict[int, list[str]] = {}
    for name, tensor in own.items():
        groups.setdefault(tensor.data_ptr() if tensor.numel() else id(tensor), []).append(name)
    missing = sorted(names[0] for names in groups.values() if not tensors.keys() & set(names))
    unknown = sorted(tensors.keys() - own.keys())
    misshaped = sorted(n for n in tensors.keys() & own.keys() if tensors[n].shape != own[n].shape)
    for problem, names in (
        ("lacks", missing),
        ("has the unknown tensor", unknown),
        ("has another shape of", misshaped),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UncloudedError(
                f"{source} {problem} {names[0]}{more}, so it does not fit its own card. Fetch or export the file again."
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)

"""Between the authors' weight files, our model files and plain state dicts: the work behind `unclouded models`."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.card import ModelCard
from unclouded.models.registry import METHODS
from unclouded.sampling import PAPER, Sampling

if TYPE_CHECKING:
    import torch

    from unclouded.models.authors import Imported
    from unclouded.models.base import RestorationModel

FilePath = str | os.PathLike[str]

BAND_NAMES = {1: ("gray",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}

TITLES = {"de": "DE", "msda": "MSDA-CR", "memorynet": "MemoryNet", "spagan": "SpA-GAN", "diffcr": "DiffCR"}
# Zou et al.: DPM-Solver++, 20 steps uniform in time; with the closing evaluation, 21 of our schedule
SAMPLING = {"diffcr": Sampling(sampler="dpm", steps=21, spacing="linspace")}
LICENCES = {"spagan": "MIT"}  # the others' authors state none
CITATIONS = {
    "de": "Sui et al., Diffusion Enhancement for Cloud Removal in Ultra-Resolution Remote Sensing Imagery, TGRS 2024",
    "diffcr": "Zou et al., DiffCR: A Fast Conditional Diffusion Framework for Cloud Removal From Optical Satellite "
    "Images, TGRS 2024",
    "msda": "Yu et al., Cloud Removal in Optical Remote Sensing Imagery Using Multiscale Distortion-Aware Networks, "
    "GRSL 2022",
    "memorynet": "Zhang et al., Memory augment is All You Need for image restoration, arXiv 2309.01377",
    "spagan": "Pan, Cloud Removal for Remote Sensing Imagery via Spatial Attention Generative Adversarial Network, "
    "arXiv 2009.13015",
}


class Conversion(NamedTuple):
    """A model made from the authors' files. `kinds` are what the files held; `skipped` their tensors without effect."""

    model: "RestorationModel"
    card: ModelCard
    kinds: tuple[str, ...]
    skipped: tuple[str, ...]
    dtype: "torch.dtype"  # the precision of the files


def from_authors(
    path: FilePath,
    prior: FilePath | None = None,
    *,
    name: str,
    kind: str | None = None,
    band_order: str | None = None,
    band_names: Sequence[str] | None = None,
    licence: str | None = None,
) -> Conversion:
    """One model from the authors' file `path` and, for DE with weight allocation, the file of its reference prior.

    `kind` and `band_order` are those of the file that is no DE (see `authors.import_checkpoint`). Raises UncloudedError
    for a file that does not fit, UsageError for parts that do not go together.
    """
    import torch

    from unclouded.models.authors import assemble, import_checkpoint

    if prior is None:
        files = [import_checkpoint(path, kind, band_order)]
    else:
        files = [import_checkpoint(path, "de"), import_checkpoint(prior, kind, band_order)]
    model = assemble(*files)
    paths = [Path(path), *([Path(prior)] if prior else [])]
    card = _card(name, model, files, paths, band_names, licence)
    dtype = max((f.dtype for f in files), key=lambda d: torch.finfo(d).bits)
    return Conversion(model, card, tuple(f.kind for f in files), tuple(s for f in files for s in f.skipped), dtype)


def _card(
    name: str,
    model: "RestorationModel",
    files: "list[Imported]",
    paths: list[Path],
    band_names: Sequence[str] | None,
    licence: str | None,
) -> ModelCard:
    from unclouded.scenes.bands import BandSet

    bands = model.bands
    names = band_names or BAND_NAMES.get(bands) or [f"band_{i + 1}" for i in range(bands)]
    if len(names) != bands:
        raise UsageError(f"{len(names)} band names ({', '.join(names)}) for {bands} bands. Give --band-names {bands}.")
    kinds = [file.kind for file in files]
    what = " with ".join(TITLES[kind] for kind in kinds)
    stated = {LICENCES.get(kind, "not stated by the authors") for kind in kinds}
    return ModelCard(
        name=name,
        summary=f"The authors' weights of {what}, imported from {' and '.join(p.name for p in paths)}.",
        method=kinds[0] if kinds[0] in METHODS else "prior",
        architecture=model.config.model_dump(mode="json"),
        bands=BandSet.display(*names),
        sampling=SAMPLING.get(kinds[0], PAPER),
        limits=("Imported weights: not evaluated here.",),
        licence=licence or "; ".join(sorted(stated)),
        citation=tuple(CITATIONS[kind] for kind in kinds),
    )


def parameters(model: "RestorationModel") -> dict[str, int]:
    """Numbers of parameters of the model's parts ("prior", "cnp", "wa", …) and "total"."""
    import torch

    assert isinstance(model, torch.nn.Module)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return {**counts, "total": sum(p.numel() for p in model.parameters())}


def export(source: FilePath, target: FilePath, *, part: str | None = None, dtype: str = "as-stored") -> list[Path]:
    """Write a model's weights under our names to `target`, and its card to the same name with .json.

    A whole model as .safetensors is a model file again; `part` ("prior", "cnp", "wa", …) alone, and .pt or .pth, are
    plain state dicts for other programs. `dtype` is "fp32", "fp16" or "as-stored". Returns what was written.
    """
    import torch

    target, beside = exported_files(target)
    card, tensors = store.read_card(source), _tensors(source)
    if dtype != "as-stored":
        to = {"fp32": torch.float32, "fp16": torch.float16}[dtype]
        tensors = {name: t.to(to) if t.is_floating_point() else t for name, t in tensors.items()}
    if part is not None:
        tensors = _part(tensors, part)
    header = {} if part else {store.CARD_KEY: card.model_dump_json()}
    store.write_atomically(target, _to_bytes(tensors, header, target.suffix))
    store.write_atomically(beside, card.model_dump_json(indent=2).encode())
    return [target, beside]


def exported_files(target: FilePath) -> tuple[Path, Path]:
    """What `export` writes: `target`, and the card beside it. Raises UsageError for a format that it does not know."""
    target = Path(target)
    if target.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"{target.name or target} names no known format. End it in .safetensors, .pt or .pth.")
    return target, target.with_suffix(".json")


def _tensors(source: FilePath) -> "dict[str, torch.Tensor]":
    """The weights of a model file as stored, after a check that they fit its card."""
    from safetensors.torch import load_file

    store.load(source)
    return load_file(source)


def _part(tensors: "dict[str, torch.Tensor]", part: str) -> "dict[str, torch.Tensor]":
    parts = sorted({name.partition(".")[0] for name in tensors})
    if part not in parts:
        raise UsageError(f"The model has no part {part!r}. Choose one of: {', '.join(parts)}.")
    return {name.removeprefix(part + "."): t for name, t in tensors.items() if name.startswith(part + ".")}


def _to_bytes(tensors: "dict[str, torch.Tensor]", header: dict[str, str], suffix: str) -> bytes:
    if suffix == ".safetensors":
        from safetensors.torch import save

        return save(tensors, header or None)
    import torch

    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def check_writable(targets: Sequence[Path], sources: Sequence[FilePath], overwrite: bool) -> None:
    """Raises UncloudedError if writing `targets` would lose something: an input, or an existing file."""
    for path in targets:
        if any(path.resolve() == Path(source).resolve() for source in sources):
            raise UncloudedError(f"{path} is an input itself. Choose another output.")
        if path.exists() and not overwrite:
            raise UncloudedError(f"{path} exists already. Choose another output, or give --overwrite.")
        if not path.absolute().parent.is_dir():
            raise UncloudedError(f"The folder of {path} does not exist. Make it first.")


def description(path: FilePath) -> dict[str, Any]:
    """What `models info --json` prints: the card, the file's size and hash, and the parameters of each part."""
    path = Path(path)
    model, card = store.load(path)
    return {
        **card.model_dump(mode="json"),
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": store.sha256(path),
        "parameters": parameters(model),
    }

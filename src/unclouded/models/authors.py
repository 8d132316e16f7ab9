"""Reads the authors' own weight files (.pt, .pth, .safetensors) into our networks.

Keys are translated by the tables of `authors_keys` (the diffusion networks by `unet_authors`); a file fits only if
every tensor has its place and every place its tensor.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import nn

from unclouded.errors import UncloudedError, UsageError
from unclouded.models import authors_keys
from unclouded.models.authors_files import WHAT_FITS, State, read_state
from unclouded.models.authors_keys import KeyMap
from unclouded.models.registry import build_model, build_prior

if TYPE_CHECKING:
    from unclouded.models.base import RestorationModel
    from unclouded.models.unet import UNetConfig


# A training program may store its noise schedule beside the network; ours is computed.
SCHEDULE_BUFFERS = r"(betas|alphas|gammas|sqrt_|log_|posterior_)\w*"


@dataclass(frozen=True)
class Imported:
    """What a file held.

    `parts` are our networks, by their place in the model ("prior", "cnp", "wa", "network"); `options` what their
    constructors take besides `bands`; `skipped` the authors' tensors that have no effect on the output and were left
    out; `dtype` the precision of the file.
    """

    kind: str
    bands: int
    parts: dict[str, nn.Module]
    options: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float32


def import_checkpoint(path: str | PathLike[str], kind: str | None = None, band_order: str | None = None) -> Imported:
    """Read one weight file of the authors; its `kind` (a key of KINDS) is recognised by its tensors unless given.

    `band_order` "bgr" or "rgb" says how the file's network orders its first three bands; SpA-GAN's released files are
    "bgr" (the default for three bands), everything else is "rgb".

    Raises UncloudedError if the file cannot be read, is of no known kind, or if a tensor is missing, unknown or of
    another shape (the first is named); UsageError for an unknown `kind` or `band_order`.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"There is no kind of checkpoint named {kind!r}. Choose one of: {', '.join(KINDS)}.")
    if band_order not in (None, "rgb", "bgr"):
        raise UsageError(f"Unknown band order {band_order!r}. Choose rgb or bgr.")
    state = read_state(path)
    found, prefix = _recognise(state, str(path), kind)
    dtype = torch.float32 if any(t.dtype == torch.float32 for t in state.values()) else torch.float16
    state = {key: tensor for key, tensor in state.items() if not re.fullmatch(SCHEDULE_BUFFERS, key)}
    stray = [key for key in state if not key.startswith(prefix)]
    if stray:
        _misfit(str(path), found, "has the unknown tensor", stray)
    state = {key.removeprefix(prefix): tensor.float() for key, tensor in state.items()}
    return KINDS[found].read(state, _Source(str(path), found, dtype, band_order))


@dataclass(frozen=True)
class _Source:
    """Where tensors came from, for messages and for the result."""

    path: str
    kind: str
    dtype: torch.dtype
    band_order: str | None


def _recognise(state: State, path: str, wanted: str | None) -> tuple[str, str]:
    """The kind of checkpoint and what stands before all its keys ("module.", "gen.gen.", "")."""
    for kind in [wanted] if wanted else KINDS:
        signature = KINDS[kind].signature
        hits = [key for key in state if key == signature or key.endswith("." + signature)]
        if hits:
            return kind, min(hits, key=len).removesuffix(signature)
    if wanted:
        raise UncloudedError(
            f"{path} lacks the tensor {KINDS[wanted].signature} that every {wanted} file has. "
            f"Leave the kind out to have it recognised, or give a whole {wanted} file."
        )
    raise UncloudedError(
        f"{path} holds tensors of no network known here (the first is {next(iter(state))}). {WHAT_FITS}."
    )


def _misfit(path: str, kind: str, problem: str, names: list[str]) -> NoReturn:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    raise UncloudedError(
        f"{path} {problem} {sorted(names)[0]}{more}, so it is not a {kind} file as the authors' code writes it. "
        "Fetch it again, or name its kind."
    )


def load_translated(module: nn.Module, state: State, keys: KeyMap, source: _Source) -> tuple[str, ...]:
    """Give `module` the authors' tensors; returns the keys that were left out on purpose.

    Raises UncloudedError naming the first tensor (in the authors' words) that is missing, unknown, of another shape,
    not finite, or that should repeat another one and does not.
    """
    own = module.state_dict()
    theirs = {ours: keys.theirs(ours) for ours in own}
    skipped = tuple(sorted(key for key in state if keys.is_unused(key)))
    copies = [key for key in state if keys.is_copy(key) and key not in theirs.values()]
    unknown = state.keys() - theirs.values() - {*skipped, *copies}
    canonical = [state[key] for key in theirs.values() if keys.is_copy(key) and key in state]
    problems = {
        "lacks": [key for key in theirs.values() if key not in state],
        "has the unknown tensor": list(unknown),
        "has another shape of": [
            key for ours, key in theirs.items() if key in state and state[key].shape != own[ours].shape
        ],
        "has a shared value that differs in": [
            key for key in copies if canonical and not torch.equal(state[key], canonical[0])
        ],
        "has values that are not finite in": [
            k for k in theirs.values() if k in state and not state[k].isfinite().all()
        ],
    }
    for problem, names in problems.items():
        if names:
            _misfit(source.path, source.kind, problem, names)
    module.load_state_dict({ours: state[key] for ours, key in theirs.items()})
    return skipped


def _shape(state: State, key: str, dim: int, axis: int, source: _Source) -> int:
    if key not in state:
        _misfit(source.path, source.kind, "lacks", [key])
    if state[key].dim() != dim or not state[key].shape[axis]:
        _misfit(source.path, source.kind, "has another shape of", [key])
    return state[key].shape[axis]


def _read_prior(conv_in: str) -> "Reader":
    """A reader of one prior; `conv_in` is the author's convolution that tells the bands."""

    def read(state: State, source: _Source) -> Imported:
        _rgb_only(source)
        bands = _shape(state, conv_in, 4, 1, source)
        prior = cast(nn.Module, build_prior(source.kind, bands=bands))
        skipped = load_translated(prior, state, _KEYS[source.kind], source)
        return Imported(source.kind, bands, {"prior": prior}, {}, skipped, source.dtype)

    return read


def _read_spagan(state: State, source: _Source) -> Imported:
    """The released networks see blue, green, red; ours see bands as the file has them, so both ends are turned
    round."""
    conv_in, conv_out = "conv_in.0.weight", "conv_out.0.weight"
    bands = _shape(state, conv_in, 4, 1, source)
    if (source.band_order or ("bgr" if bands == 3 else "rgb")) == "bgr" and conv_out in state:
        order = [2, 1, 0, *range(3, bands)]
        if bands < 3 or state[conv_out].shape[0] != bands:
            _misfit(source.path, source.kind, "has another shape of", [conv_out])
        state = {**state, conv_in: state[conv_in][:, order], conv_out: state[conv_out][order]}
    return _read_prior(conv_in)(state, replace(source, band_order=None))


def _read_de(state: State, source: _Source) -> Imported:
    """CNP and, where the file has it, WA. Which heads a U-Net has, no shape tells: they are Table IV's."""
    from unclouded.models.unet_authors import WA_PREFIX, de_from_authors

    _rgb_only(source)
    cnp_config, cnp_state, wa_config, wa_state = de_from_authors(state)
    parts: dict[str, nn.Module] = {"cnp": _unet(cnp_config, cnp_state, "", source)}
    if wa_config is not None and wa_state is not None:
        parts["wa"] = _unet(wa_config, wa_state, WA_PREFIX, source)
    return Imported("de", cnp_config.out_channels, parts, {}, (), source.dtype)


def _unet(config: "UNetConfig", state: State, prefix: str, source: _Source) -> nn.Module:
    """The U-Net of this configuration with exactly these tensors (in our names)."""
    from unclouded.models.unet import UNet

    network = UNet(config)
    own = network.state_dict()
    problems = {
        "lacks": own.keys() - state.keys(),
        "has the unknown tensor": state.keys() - own.keys(),
        "has another shape of": {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape},
        "has values that are not finite in": {k for k, tensor in state.items() if not tensor.isfinite().all()},
    }
    for problem, names in problems.items():
        if names:
            _misfit(source.path, source.kind, problem, [prefix + _unet_theirs(name, own) for name in names])
    network.load_state_dict(state)
    return network


def _unet_theirs(ours: str, own: State) -> str:
    """The authors' name of a U-Net tensor, for messages: the one of all possible names that becomes `ours`."""
    from unclouded.models.unet_authors import unet_key

    layers = ("", ".in_layers.0", ".in_layers.2", ".emb_layers.1", ".out_layers.0", ".out_layers.3", ".skip_connection")
    parts = [*layers, ".norm", ".qkv", ".proj_out", ".op", ".conv"]
    number = re.search(r"\d+", ours)
    blocks = [f"input_blocks.{int(number[0]) + 1}", f"output_blocks.{number[0]}"] if number else []
    # Their up-sampling comes after the block's attention, where there is one.
    places = [0, 1, 2] if number and f"up.{number[0]}.attention.qkv.weight" not in own else [0, 2, 1]
    roots = [f"{block}.{i}" for block in [*blocks, "middle_block"] for i in places]
    roots += ["input_blocks.0.0", "time_embed.0", "time_embed.2", "out.0", "out.2"]
    for name in (f"{root}{part}.{kind}" for root in roots for part in parts for kind in ("weight", "bias")):
        try:
            if unet_key(name) == ours:
                return name
        except UncloudedError:
            continue
    return ours


def _read_diffcr(state: State, source: _Source) -> Imported:
    """Width and bands show in the shapes; the published weights want the published time convention and three frames."""
    from unclouded.models.diffcr import DiffCRConfig, DiffCRNet

    _rgb_only(source)
    bands, width = (_shape(state, "intro.weight", 4, axis, source) for axis in (1, 0))
    options = {"width": width, "frames": 3, "time": "published"}
    network = DiffCRNet(DiffCRConfig.model_validate({"bands": bands, **options}))
    skipped = load_translated(network, state, authors_keys.DIFFCR, source)
    return Imported("diffcr", bands, {"network": network}, options, skipped, source.dtype)


def _rgb_only(source: _Source) -> None:
    if source.band_order == "bgr":
        raise UsageError(f"Only spagan files come in the order bgr, and {source.path} is {source.kind}. Leave it out.")


Reader = Callable[[State, _Source], Imported]


@dataclass(frozen=True)
class _Kind:
    signature: str
    read: Reader


_KEYS = {"memorynet": authors_keys.MEMORYNET, "msda": authors_keys.MSDA, "spagan": authors_keys.SPAGAN}

KINDS = {
    "memorynet": _Kind(authors_keys.MEMORYNET.signature, _read_prior("shallow_feat1.0.weight")),
    "msda": _Kind(authors_keys.MSDA.signature, _read_prior("conv_in.weight")),
    "spagan": _Kind(authors_keys.SPAGAN.signature, _read_spagan),
    "de": _Kind("input_blocks.0.0.weight", _read_de),
    "diffcr": _Kind(authors_keys.DIFFCR.signature, _read_diffcr),
}


def assemble(imported: Imported, prior: Imported | None = None) -> "RestorationModel":
    """One model from one file, or from a DE file and the file of its reference prior.

    Raises UsageError if a DE file with weight allocation comes without its prior, or a prior with anything else.
    """
    if imported.kind == "de":
        _check_de(imported, prior)
        model = build_model("de", _de_architecture(imported, prior))
    elif prior is not None:
        raise UsageError(f"A {imported.kind} model takes no prior. Leave --prior out.")
    elif imported.kind == "diffcr":
        model = build_model("diffcr", {"bands": imported.bands, **imported.options})
    else:
        options = {"bands": imported.bands, "prior": imported.kind, "prior_options": imported.options}
        model = build_model("prior", options)
    for name, part in {**(prior.parts if prior else {}), **imported.parts}.items():
        cast(nn.Module, getattr(model, name)).load_state_dict(part.state_dict())
    model.eval()
    return model


def _check_de(imported: Imported, prior: Imported | None) -> None:
    if "wa" not in imported.parts:
        if prior is not None:
            raise UsageError("The DE file is pure diffusion, without weight allocation. Leave --prior out.")
        return
    if prior is None:
        raise UsageError(
            "The DE file has weight allocation but no reference prior. Give the prior's file with --prior."
        )
    if list(prior.parts) != ["prior"]:
        raise UsageError(f"A {prior.kind} file is no reference prior. Give an MSDA-CR, MemoryNet or SpA-GAN file.")
    if prior.bands != imported.bands:
        raise UsageError(f"The DE file has {imported.bands} bands, the prior {prior.bands}. Give two that fit.")


def _de_architecture(imported: Imported, prior: Imported | None) -> dict[str, Any]:
    configs: dict[str, Any] = {name: part.config for name, part in imported.parts.items()}
    return {
        "bands": imported.bands,
        "prior": prior.kind if prior else None,
        "prior_options": prior.options if prior else {},
        "cnp": configs["cnp"],
        "wa": configs.get("wa"),
    }

"""The DE authors' checkpoints in our names: the key map of the U-Net, and the configurations that the shapes tell.

Their file holds the CNP at the top level and, once it is trained, the WA under `sjlnet.`. The numbers stay as they are;
the 1×1 convolutions of attention, [out, in, 1] there, are our linear layers, [out, in].
"""

import re
from collections.abc import Mapping

from torch import Tensor

from unclouded.errors import UncloudedError
from unclouded.models.unet import UNetConfig

WA_PREFIX = "sjlnet."
CNP_HEADS, WA_HEADS = 4, 1  # the only facts that no shape tells (Table IV)

Weights = Mapping[str, Tensor]

_MODULES = {  # first match wins; {} is the index of the block, in ours
    r"time_embed\.0": "time.0",
    r"time_embed\.2": "time.2",
    r"input_blocks\.0\.0": "stem.1",
    r"input_blocks\.(\d+)\.0\.op": "down.{}.resample.conv",
    r"input_blocks\.(\d+)\.0": "down.{}.res",
    r"input_blocks\.(\d+)\.1": "down.{}.attention",
    r"middle_block\.0": "middle.0.res",
    r"middle_block\.1": "middle.0.attention",
    r"middle_block\.2": "middle.1.res",
    r"output_blocks\.(\d+)\.[12]\.conv": "up.{}.resample.conv",
    r"output_blocks\.(\d+)\.0": "up.{}.res",
    r"output_blocks\.(\d+)\.1": "up.{}.attention",
    r"out\.0": "head.0",
    r"out\.2": "head.2",
}
_LAYERS = {
    "": "",
    "in_layers.0.": "norm1.",
    "in_layers.2.": "conv1.",
    "emb_layers.1.": "embed.",
    "out_layers.0.": "norm2.",
    "out_layers.3.": "conv2.",
    "skip_connection.": "skip.",
    "norm.": "norm.",
    "qkv.": "qkv.",
    "proj_out.": "out.",
}


def unet_key(key: str) -> str:
    """Our name of a tensor of the authors' U-Net (without `sjlnet.`). Raises UncloudedError for one that has none."""
    for theirs, ours in _MODULES.items():
        match = re.fullmatch(theirs + r"\.(.*\.)?(weight|bias)", key)
        if match and (match[match.re.groups - 1] or "") in _LAYERS:
            *index, layer, parameter = match.groups(default="")
            # Their input_blocks.0 is our stem, so that block i is our down.{i−1}.
            number = int(index[0]) - key.startswith("input_blocks") if index else 0
            return f"{ours.format(number)}.{_LAYERS[layer]}{parameter}"
    raise UncloudedError(
        f"The tensor {key!r} is not part of the DE authors' U-Net. Check that the file is a DE checkpoint."
    )


def unet_config(weights: Weights, heads: int) -> UNetConfig:
    """The configuration of a U-Net in the authors' names (without `sjlnet.`)."""
    channels = weights["time_embed.0.weight"].shape[1]
    levels: list[list[int]] = [[]]  # the widths of the blocks of each level
    attention: set[int] = set()
    block = 1
    while f"input_blocks.{block}.0.out_layers.3.weight" in weights or f"input_blocks.{block}.0.op.weight" in weights:
        if f"input_blocks.{block}.0.op.weight" in weights:
            levels.append([])
        else:
            levels[-1].append(weights[f"input_blocks.{block}.0.out_layers.3.weight"].shape[0])
        if f"input_blocks.{block}.1.qkv.weight" in weights:
            attention.add(2 ** (len(levels) - 1))
        block += 1
    return UNetConfig(
        in_channels=weights["input_blocks.0.0.weight"].shape[1],
        out_channels=weights["out.2.weight"].shape[0],
        channels=channels,
        res_blocks=len(levels[0]),
        multipliers=tuple(level[0] // channels for level in levels),
        attention=tuple(sorted(attention)),
        heads=heads,
        scale_shift=weights["input_blocks.1.0.emb_layers.1.weight"].shape[0] == 2 * levels[0][0],
    )


def unet_from_authors(weights: Weights, heads: int) -> tuple[UNetConfig, dict[str, Tensor]]:
    """A U-Net in the authors' names (without `sjlnet.`) -> its configuration and its state dict in ours.

    Raises UncloudedError for a tensor that is unknown, or where one that the configuration rests on is missing.
    """
    state = {
        unet_key(key): tensor.squeeze(-1) if re.search(r"\.(qkv|proj_out)\.weight$", key) else tensor
        for key, tensor in weights.items()
    }
    try:
        return unet_config(weights, heads), state
    except (KeyError, IndexError) as error:
        raise UncloudedError(
            f"The checkpoint lacks {error} and so is not a whole DE U-Net. Use the authors' complete file."
        ) from error


def de_from_authors(
    weights: Weights,
) -> tuple[UNetConfig, dict[str, Tensor], UNetConfig | None, dict[str, Tensor] | None]:
    """The authors' state dict -> CNP configuration and state, WA configuration and state (None for pure diffusion)."""
    cnp = {key: tensor for key, tensor in weights.items() if not key.startswith(WA_PREFIX)}
    wa = {key.removeprefix(WA_PREFIX): tensor for key, tensor in weights.items() if key.startswith(WA_PREFIX)}
    return *unet_from_authors(cnp, CNP_HEADS), *(unet_from_authors(wa, WA_HEADS) if wa else (None, None))

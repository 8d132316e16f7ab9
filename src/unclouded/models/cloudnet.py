"""Cloud-Net: the probability of cloud at every pixel of an image.

Mohajerani and Saeedi, "Cloud-Net: An End-to-end Cloud Detection Algorithm for Landsat 8 Imagery", IGARSS 2019 (arXiv
1901.10077): a U-Net whose contracting blocks have a shortcut that doubles the channels by joining the input with a 1×1
convolution of it, and whose skips carry the features of all finer levels, repeated and max-pooled to theirs. Written
from the paper; width and depth are free, since ours runs on a CPU beside everything else. It is no restoration model,
so it has a file and a card like one, but not its interface.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from unclouded.errors import UncloudedError
from unclouded.models.padding import crop, pad_to_multiple

METHOD = "cloud-net"  # in the card


class CloudNetConfig(BaseModel):
    """`features` channels at full size, doubled by each of `levels` contracting blocks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bands: int = Field(3, ge=1)
    features: int = Field(8, ge=1)
    levels: int = Field(3, ge=1)


def _conv(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Contract(nn.Module):
    """[B, c, H, W] to [B, 2c, H, W]: two convolutions, and a shortcut of x joined with its 1×1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(_conv(channels, 2 * channels), _conv(2 * channels, 2 * channels))
        self.short = _conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + torch.cat((x, self.short(x)), 1))


class Expand(nn.Module):
    """[B, c, H, W] and the skip [B, c/2, 2H, 2W] to the skip's shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        self.main = nn.Sequential(_conv(channels, channels // 2), _conv(channels // 2, channels // 2))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        grown = self.up(x)
        return F.relu(self.main(torch.cat((grown, skip), 1)) + grown)


def feed_forward(contracted: list[Tensor]) -> Tensor:
    """The features of a level (the last of `contracted`) with those of all finer ones, which have half the channels
    and twice the size each: repeated and max-pooled to its shape, and summed."""
    own = contracted[-1]
    total = own
    for step, finer in enumerate(reversed(contracted[:-1]), start=1):
        total = total + F.max_pool2d(finer.repeat(1, 2**step, 1, 1), 2**step)
    return F.relu(total)


class CloudNet(nn.Module):
    """Image [B, bands, H, W] in [0, 1] to the probability of cloud [B, 1, H, W], any H×W."""

    def __init__(self, config: CloudNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.features * 2**level for level in range(config.levels + 1)]
        self.multiple = 2**config.levels
        self.intro = _conv(config.bands, config.features)
        self.contract = nn.ModuleList(Contract(c) for c in widths[:-1])
        self.bottom = Contract(widths[-1])
        self.expand = nn.ModuleList(Expand(2 * c) for c in reversed(widths[1:]))
        self.outro = nn.Conv2d(widths[1], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sigmoid()

    def logits(self, x: Tensor) -> Tensor:
        """The same before the sigmoid."""
        height, width = x.shape[-2:]
        h = self.intro(pad_to_multiple(x, self.multiple))
        contracted: list[Tensor] = []
        for block in self.contract:
            contracted.append(block(h))
            h = F.max_pool2d(contracted[-1], 2)
        h = self.bottom(h)
        for level, block in zip(range(len(contracted), 0, -1), self.expand, strict=True):
            h = block(h, feed_forward(contracted[:level]))
        return crop(self.outro(h), height, width)


def save_cloud_net(path: Path, model: CloudNet, summary: str, data: tuple[str, ...], steps: int) -> None:
    """A model file, with a card that says what it was trained on."""
    from unclouded.models import store
    from unclouded.models.card import ModelCard, TrainingRecord
    from unclouded.scenes.bands import BandSet

    card = ModelCard(
        name=METHOD,
        summary=summary,
        method=METHOD,
        architecture=model.config.model_dump(),
        bands=BandSet.display("red", "green", "blue"),
        training=TrainingRecord(recipe=METHOD, data=data, steps={METHOD: steps}),
        licence="Apache-2.0",
        citation=("Mohajerani and Saeedi, Cloud-Net, IGARSS 2019, arXiv 1901.10077",),
    )
    store.save(path, model, card)  # type: ignore[arg-type]


def load_cloud_net(path: Path) -> CloudNet:
    """The network of a file that `save_cloud_net` wrote, ready to use; UncloudedError for any other file."""
    from safetensors.torch import load_file

    from unclouded.models import store

    card = store.read_card(path)
    if card.method != METHOD:
        raise UncloudedError(
            f"{path} holds a model of kind {card.method!r}, not Cloud-Net. Train one with `unclouded data cloud-net`."
        )
    try:
        model = CloudNet(CloudNetConfig.model_validate(card.architecture))
    except ValidationError as error:
        raise UncloudedError(f"The architecture in {path} is not valid. Train the file again.") from error
    store.fill(model, load_file(path), str(path))  # type: ignore[arg-type]
    return model.eval()

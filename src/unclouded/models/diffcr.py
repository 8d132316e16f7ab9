"""DiffCR: a fast conditional diffusion model that predicts x0 and takes any number of cloudy frames.

Zou et al., "DiffCR: A Fast Conditional Diffusion Framework for Cloud Removal From Optical Satellite Images", TGRS 2024
(arXiv 2308.04417). A condition encoder apart from the denoiser sees each frame alone; the frames' features are
summed, so their order and number do not matter, and are computed once per image, not once per step. The blocks fuse
time and condition (TCF). Sampling is the ordinary DPM-Solver++ of `diffusion.samplers`. Beyond the paper, the encoder
may see Sentinel-1 beside each frame.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unclouded.diffusion.denoisers import AS_PUBLISHED, Denoised, Denoiser, Weighing, thresholded
from unclouded.diffusion.schedule import SCHEDULES, uniform_in_time
from unclouded.models.conditions import split_condition
from unclouded.models.unet import LastConv

TIME_FREQUENCIES = 32
TIME_CHANNELS = 256
Pooling = Literal["both", "mean", "max", "none"]


class DiffCRConfig(BaseModel):
    """What shapes the network and how it is asked.

    `time` is what it is told of a step: the noise level ᾱ, as in training and in the paper, or what the published
    sampler gives it, (t − 1/M)·1000 for t from 1/M to 1, which the published weights need to give the published
    images. `frames` is what the model is meant for; it takes any number. `sar` is the number of Sentinel-1 bands.
    `pooling` varies the blocks: which of their two pooled gates they have (the paper's: both). `threshold` is the
    quantile of dynamic thresholding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    bands: int = Field(3, ge=1)
    frames: int = Field(1, ge=1)
    sar: Literal[0, 2] = 0
    width: int = Field(64, ge=2, multiple_of=2)
    encoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    middle_blocks: int = Field(1, ge=0)
    decoder_blocks: tuple[int, ...] = (1, 1, 1, 1)
    pooling: Pooling = "both"
    prediction: Literal["x0", "eps"] = "x0"
    time: Literal["noise-level", "published"] = "noise-level"
    schedule: Literal["sigmoid", "linear", "cosine"] = "sigmoid"
    T: int = Field(1000, ge=2)
    threshold: float | None = Field(0.995, gt=0, le=1)


class LayerNorm(nn.Module):
    """Over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, eps=1e-6)
        return normed.movedim(-1, 1)


def gate(x: Tensor) -> Tensor:
    """SimpleGate: one half of the channels times the other, [B, 2c, H, W] to [B, c, H, W]."""
    a, b = x.chunk(2, 1)
    return a * b


class Block(nn.Module):
    """A TCF block [B, c, H, W] to the same; without `timed` it is the condition encoder's.

    One half of the features is gated by its mean, the other by its maximum; `pooling` leaves one or both gates out.
    """

    def __init__(self, channels: int, timed: bool, pooling: Pooling = "both") -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.expand1 = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.by_mean = nn.Conv2d(channels // 2, channels // 2, 1) if pooling in ("both", "mean") else None
        self.by_max = nn.Conv2d(channels // 2, channels // 2, 1) if pooling in ("both", "max") else None
        self.project1 = nn.Conv2d(channels, channels, 1)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.time = nn.Linear(TIME_CHANNELS, channels) if timed else None
        self.norm2 = LayerNorm(channels)
        self.expand2 = nn.Conv2d(channels, 2 * channels, 1)
        self.project2 = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = gate(self.depthwise(self.expand1(self.norm1(x))))
        first, second = h.chunk(2, 1)
        if self.by_mean is not None:
            first = first * self.by_mean(first.mean((2, 3), keepdim=True))
        if self.by_max is not None:
            second = second * self.by_max(second.amax((2, 3), keepdim=True))
        y = x + self.beta * self.project1(torch.cat([first, second], 1))
        if self.time is not None and time is not None:
            y = y + self.time(F.silu(time))[:, :, None, None]
        return y + self.gamma * self.project2(gate(self.expand2(self.norm2(y))))  # type: ignore[no-any-return]


class Level(nn.ModuleList):
    """A run of blocks at one scale."""

    def __init__(self, channels: int, blocks: int, timed: bool, pooling: Pooling) -> None:
        super().__init__(Block(channels, timed, pooling) for _ in range(blocks))

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        for block in self:
            x = block(x, time)
        return x


def down(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 2 * channels, 2, stride=2)


class ConditionEncoder(nn.Module):
    """y [B, N·bands + sar, H, W], N frames one after another and Sentinel-1, to the summed features of each level."""

    def __init__(self, config: DiffCRConfig) -> None:
        super().__init__()
        self.bands, self.sar = config.bands, config.sar
        widths = [config.width * 2**i for i in range(len(config.encoder_blocks))]
        self.intro = nn.Conv2d(config.bands + config.sar, config.width, 3, padding=1)
        blocks = zip(widths, config.encoder_blocks, strict=True)
        self.levels = nn.ModuleList(Level(c, n, False, config.pooling) for c, n in blocks)
        self.downs = nn.ModuleList(down(c) for c in widths[:-1])

    def forward(self, y: Tensor) -> list[Tensor]:
        batch = len(y)
        frames, radar = split_condition(y, self.bands, self.sar)
        seen = torch.cat((frames, radar[:, None].expand(-1, frames.shape[1], -1, -1, -1)), dim=2)
        x = self.intro(seen.flatten(0, 1))  # frames are items of the batch
        sums = []
        for i, level in enumerate(self.levels):
            x = level(x)
            sums.append(x.reshape(batch, -1, *x.shape[1:]).sum(1))
            if i < len(self.downs):
                x = self.downs[i](x)
        return sums


class DiffCRNet(nn.Module):
    """(x_t [B, bands, H, W], time [B], condition) to x0 or ε [B, bands, H, W]; H and W multiples of 2^levels."""

    def __init__(self, config: DiffCRConfig) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in range(len(config.encoder_blocks))]
        frequencies = 10000 ** (-torch.arange(TIME_FREQUENCIES) / TIME_FREQUENCIES)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, TIME_CHANNELS), nn.SiLU(), nn.Linear(TIME_CHANNELS, TIME_CHANNELS)
        )
        self.condition = ConditionEncoder(config)
        self.intro = nn.Conv2d(config.bands, config.width, 3, padding=1)
        down_blocks = zip(widths, config.encoder_blocks, strict=True)
        self.encoder = nn.ModuleList(Level(c, n, True, config.pooling) for c, n in down_blocks)
        self.downs = nn.ModuleList(down(c) for c in widths)
        self.middle = Level(2 * widths[-1], config.middle_blocks, True, config.pooling)
        self.ups = nn.ModuleList(nn.Conv2d(2 * c, 4 * c, 1, bias=False) for c in reversed(widths))
        up_blocks = zip(reversed(widths), config.decoder_blocks, strict=True)
        self.decoder = nn.ModuleList(Level(c, n, True, config.pooling) for c, n in up_blocks)
        self.outro = LastConv(config.width, config.bands)

    def embed(self, time: Tensor) -> Tensor:
        """[cos, sin] of time · 10000^(−i/32), then a small network; [B] to [B, 256]."""
        angles = time.float()[:, None] * cast(Tensor, self.frequencies)
        return self.time(torch.cat([angles.cos(), angles.sin()], 1))  # type: ignore[no-any-return]

    def forward(self, x_t: Tensor, time: Tensor, condition: Sequence[Tensor]) -> Tensor:
        t = self.embed(time)
        x = self.intro(x_t)
        skips = []
        for level, shrink, features in zip(self.encoder, self.downs, condition, strict=True):
            x = level(x, t) + features
            skips.append(x)
            x = shrink(x)
        x = self.middle(x, t)
        for level, grow in zip(self.decoder, self.ups, strict=True):
            x = level(F.pixel_shuffle(grow(x), 2) + skips.pop(), t)
        return self.outro(x)  # type: ignore[no-any-return]


class DiffCR(nn.Module):
    """The network with its schedule; see RestorationModel for the interface. `y` may hold any number of frames.

    The schedule has T + 1 points uniform in time, so that the published "20 steps" are `dpm` with 21 steps spaced
    "linspace": its 20 steps and the closing evaluation that gives the image.
    """

    Config: ClassVar[type[BaseModel]] = DiffCRConfig

    def __init__(self, config: DiffCRConfig) -> None:
        super().__init__()
        self.config = config
        self.bands = config.bands
        self.frames, self.sar = config.frames, config.sar
        self.multiple = 2 ** len(config.encoder_blocks)
        self.schedule, self.kept = uniform_in_time(SCHEDULES[config.schedule](config.T), config.T + 1)
        self.network = DiffCRNet(config)

    def reference(self, y: Tensor) -> None:
        """None: DiffCR has no reference prior."""

    def denoiser(self, y: Tensor, x_E: Tensor | None = None, weighing: Weighing = AS_PUBLISHED) -> Denoiser:
        """Predicts x0 from (x_t, t) given the frames y [B, N·bands + sar, H, W]; all in model range [−1, 1].

        Raises UncloudedError if y does not hold whole frames.
        """
        condition = self.network.condition(y)

        def denoise(x_t: Tensor, t: Tensor) -> Denoised:
            predicted = self.network(x_t, self.time(t), condition).to(x_t)
            x0 = predicted if self.config.prediction == "x0" else self.schedule.x0_from_eps(x_t, predicted, t)
            return Denoised(x0)

        return denoise if self.config.threshold is None else thresholded(denoise, self.config.threshold)

    def time(self, t: Tensor) -> Tensor:
        """What the network is told of step t [B] of the schedule, by the convention that the config names."""
        if self.config.time == "noise-level":
            return self.schedule.at(t).reshape(-1)
        return 1000 * t * ((1 - 1 / self.kept) / (self.schedule.T - 1))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Any:
        """The network's own prediction (x0 or ε) at step t [B]: what its training loss compares."""
        return self.network(x_t, self.time(t), self.network.condition(y))

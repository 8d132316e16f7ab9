"""What a model is told of a place: cloudy images of several dates, and Sentinel-1's radar image, which sees through
clouds.

They come as one tensor y [B, N·bands + sar, H, W]: N dates one after another, whose order does not matter, then the
backscatter (scenes.bands.backscatter).
"""

import torch
from torch import Tensor, nn

from unclouded.errors import UncloudedError


def split_condition(y: Tensor, bands: int, sar: int) -> tuple[Tensor, Tensor]:
    """y [B, N·bands + sar, H, W] -> dates [B, N, bands, H, W], backscatter [B, sar, H, W].

    Raises UncloudedError if y does not hold whole frames.
    """
    optical = y.shape[1] - sar
    if optical < bands or optical % bands:
        radar = f" and {sar} of Sentinel-1" if sar else ""
        raise UncloudedError(
            f"{y.shape[1]} bands are no whole number of frames of {bands} bands{radar}. Stack whole frames{radar}."
        )
    return y[:, :optical].reshape(len(y), -1, bands, *y.shape[2:]), y[:, optical:]


class DateMerge(nn.Module):
    """N cloudy images of a place [B, N, bands, H, W] in [0, 1] -> one [B, bands, H, W], a weighted mean of each pixel.

    One small network, the same for every date, says what a pixel is worth; a softmax over the dates makes that weights.
    So N is free, the order of the dates does not matter, and a single date is itself.
    """

    def __init__(self, bands: int, channels: int = 16) -> None:
        super().__init__()
        self.worth = nn.Sequential(
            nn.Conv2d(bands, channels, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.GELU(),
            nn.Conv2d(channels, 1, 3, padding=1),
        )

    def forward(self, dates: Tensor) -> Tensor:
        worth = self.worth(dates.flatten(0, 1)).reshape(*dates.shape[:2], 1, *dates.shape[3:])
        return torch.sum(worth.softmax(1) * dates, 1)

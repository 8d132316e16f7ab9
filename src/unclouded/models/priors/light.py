"""Light: the default reference prior. Its network predicts what to add to the cloudy image, and, with `gain`, by what
to multiply it: a veil y = a·x + b is undone by x = y / a − b / a, both smooth where the ground is not.
"""

from collections.abc import Sequence

from torch import Tensor

from unclouded.models.light import LightNet, at_full_resolution
from unclouded.models.padding import crop, pad_to_multiple
from unclouded.models.unet import LastConv, zeroed


class Light(LightNet):
    """y [B, bands, H, W] in [0, 1] -> clear estimate of the same shape and range; any H, W ≥ 1.

    With `gain` the answer is (1 + g) ⊙ (y − 1/2) + 1/2 + r, else y + r; g and r begin at 0.
    """

    def __init__(
        self,
        bands: int = 3,
        channels: Sequence[int] = (24, 48, 96, 192),
        blocks: Sequence[int] = (1, 1, 2, 4),
        gain: bool = False,
    ) -> None:
        super().__init__(bands, channels, blocks)
        self.head = zeroed(LastConv(channels[0], 4 * bands))
        self.gain = zeroed(LastConv(channels[0], 4 * bands)) if gain else None

    def forward(self, y: Tensor) -> Tensor:
        padded = pad_to_multiple(y, self.multiple)
        r, g = at_full_resolution(self.features(2 * padded - 1), self.head, self.gain)
        restored = padded + r if g is None else padded + r + g * (padded - 0.5)
        restored = crop(restored, y.shape[-2], y.shape[-1])
        # Training needs gradients beyond the range too; only what leaves the network for use is clamped.
        return restored if self.training else restored.clamp(0, 1)

"""LPIPS with AlexNet (Zhang et al. 2018, version 0.1), without torchvision.

The linear weights come with torchmetrics (extra `metrics`); the backbone is torchvision's published AlexNet file,
which the user fetches once. The `paper` protocol feeds images in 0–255, as the DE code does, though the metric is
defined for [−1, 1]: its numbers compare with the paper's and with nothing else. The `standard` protocol feeds [−1, 1].
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unclouded.errors import UncloudedError, UsageError
from unclouded.models.backbones import fill, read_weights

BACKBONE_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
WHERE = f"LPIPS needs torchvision's AlexNet weights. Download {BACKBONE_URL} and give its path with --lpips."
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation for inputs in [−1, 1]
WIDTHS = (64, 192, 384, 256, 256)


class AlexFeatures(nn.Module):
    """AlexNet's five convolutions (Krizhevsky 2014); gives the activations after each ReLU. Input [B, 3, H, W], sides
    ≥ 31."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict(
            {
                "0": nn.Conv2d(3, 64, 11, stride=4, padding=2),
                "3": nn.Conv2d(64, 192, 5, padding=2),
                "6": nn.Conv2d(192, 384, 3, padding=1),
                "8": nn.Conv2d(384, 256, 3, padding=1),
                "10": nn.Conv2d(256, 256, 3, padding=1),
            }
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for name, conv in self.convs.items():
            if name in ("3", "6"):
                x = nn.functional.max_pool2d(x, 3, stride=2)
            x = nn.functional.relu(conv(x))
            features.append(x)
        return features


class Lpips(nn.Module):
    """The distance of two batches [B, 3, H, W], meant for values in [−1, 1] -> [B]."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: AlexFeatures, linear: list[Tensor]) -> None:
        super().__init__()
        self.backbone = backbone.eval()
        self.linear = nn.ParameterList(nn.Parameter(w.reshape(1, -1, 1, 1), requires_grad=False) for w in linear)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    # Zhang et al. 2018, (1): d = Σ_l 1/(H_l W_l) Σ_hw ‖w_l ⊙ (ŷ_l − ŷ0_l)‖², with w_l² stored as w
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        distance = torch.zeros(len(a))
        for f, g, w in zip(self._features(a), self._features(b), self.linear, strict=True):
            distance = distance + (w * (_unit(f) - _unit(g)) ** 2).sum(dim=1).mean(dim=(1, 2)).cpu()
        return distance

    def _features(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.backbone((x - self.shift) / self.scale)
        return features

    @torch.inference_mode()
    def score(self, restored: NDArray[Any], clear: NDArray[Any], protocol: str) -> float:
        """LPIPS of two images [C, H, W] in [0, 1] under a protocol's input range. The first three bands are compared; a
        single band stands for all three."""
        a, b = (_rgb(image) for image in (restored, clear))
        if protocol == "paper":
            a, b = ((x * 255).round() for x in (a, b))
        else:
            a, b = (2 * x - 1 for x in (a, b))
        return float(self(a, b))


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _rgb(image: NDArray[Any]) -> Tensor:
    bands = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    if min(bands.shape[1:]) < 31:
        raise UncloudedError(
            f"LPIPS needs images of at least 31x31 pixels, not {bands.shape[2]}x{bands.shape[1]}. Leave it or them out."
        )
    return torch.from_numpy(np.clip(bands, 0, 1).astype(np.float32))[None]


def load(backbone: str | Path) -> Lpips:
    """LPIPS with torchvision's AlexNet weights in the file `backbone` (.pth or .safetensors).

    Raises UsageError where the file or torchmetrics is absent, saying where to get it.
    """
    network = AlexFeatures()
    fill(network.convs, backbone, "torchvision's AlexNet (features.0.weight …)", WHERE, prefix="features.")
    return Lpips(network, _linear())


def _linear() -> list[Tensor]:
    """The learned weights of the five layers, from the torchmetrics wheel."""
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise UsageError(
            "LPIPS takes its linear weights from torchmetrics. Install it with: pip install 'unclouded[metrics]'."
        )
    path = Path(spec.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    tensors = read_weights(path, "Install torchmetrics again.")
    return [tensors[f"lin{i}.model.1.weight"].float() for i in range(len(WIDTHS))]

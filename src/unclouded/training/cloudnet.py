"""Cloud-Net learns to see the clouds that the simulator puts over clear images, generated ones or the user's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unclouded.models.cloudnet import CloudNet
from unclouded.scenes.bands import BandSet
from unclouded.scenes.simulate import KINDS, Kind, simulate_clouds
from unclouded.training.pools import ClearPool
from unclouded.training.sources import open_pool
from unclouded.training.values import Source

RGB = BandSet.display("red", "green", "blue")
CLEAR_SHARE = 0.3  # of the examples have no cloud at all
LANDSCAPES = 48

Array = NDArray[np.float32]


def clear_images(folder: Path | None) -> Sequence[Array]:
    """Generated landscapes, and the images of `folder`: [3, H, W] in [0, 1]. UncloudedError for a folder without
    images, or for images of other bands."""
    sources = [Source(kind="landscapes", count=LANDSCAPES)]
    if folder is not None:
        sources.append(Source(kind="clear"))
    images: list[Array] = []
    for source in sources:
        pool = open_pool(source, folder or Path(), RGB)
        assert isinstance(pool, ClearPool)
        images.extend(pool.images)
    return images


def draw(images: Sequence[Array], rng: np.random.Generator, side: int) -> tuple[Array, Array]:
    """A crop [3, side, side] under simulated clouds (or under none), and their opacity [1, side, side]; turned and
    flipped at random, and lighter or darker as a whole."""
    image = images[int(rng.integers(len(images)))]
    row, col = (int(rng.integers(max(n - side, 0) + 1)) for n in image.shape[1:])
    clear = image[:, row : row + side, col : col + side]
    pad = [(0, 0), *((0, side - n) for n in clear.shape[1:])]
    kind: Kind = rng.choice(KINDS)
    coverage = 0.0 if rng.random() < CLEAR_SHARE else None
    sample = simulate_clouds(np.pad(clear, pad, mode="symmetric"), rng, kind=kind, coverage=coverage)
    gain = np.float32(np.exp(rng.uniform(-0.4, 0.2)))
    both = np.concatenate((np.clip(sample.cloudy * gain, 0, 1), sample.opacity[None]))
    turned = np.rot90(both, int(rng.integers(4)), axes=(1, 2))[:, :, :: int(rng.choice([1, -1]))]
    return np.ascontiguousarray(turned[:3]), np.ascontiguousarray(turned[3:])


# The paper's loss, 1 − Σ t p / Σ (t + p − t p), over the batch; cross entropy besides makes p a probability (ours: that
# light from the ground is lost, so that a thin veil counts less than a deck)
def l_cloud_net(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Jaccard and binary cross entropy; both [B, 1, H, W]."""
    p = logits.sigmoid()
    both = (target * p).sum()
    jaccard = 1 - (both + 1) / ((target + p).sum() - both + 1)
    return jaccard + F.binary_cross_entropy_with_logits(logits, target)


def train_cloud_net(
    model: CloudNet,
    images: Sequence[Array],
    steps: int,
    *,
    batch_size: int = 8,
    side: int = 96,
    lr: float = 2e-3,
    seed: int = 0,
) -> Iterator[float]:
    """Train `model` on crops of `side` pixels, yielding the loss of every step; leaves it in evaluation mode."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    decay = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1)
    for step in range(steps):
        examples = [draw(images, np.random.default_rng((seed, step, n)), side) for n in range(batch_size)]
        x, target = (torch.from_numpy(np.stack(part)) for part in zip(*examples, strict=True))
        loss = l_cloud_net(model.logits(x), target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        decay.step()
        yield float(loss.detach())
    model.eval()


class CloudScore(NamedTuple):
    """How well pixels above a probability of 0.5 match the simulated clouds of an opacity above 0.5."""

    jaccard: float
    accuracy: float


def score_cloud_net(
    model: CloudNet, images: Sequence[Array], *, seed: int, count: int = 64, side: int = 96
) -> CloudScore:
    """On `count` examples that `seed` draws."""
    hit = union = right = 0
    for n in range(count):
        x, target = draw(images, np.random.default_rng((seed, n)), side)
        with torch.inference_mode():
            found = model(torch.from_numpy(x)[None])[0].numpy() > 0.5
        cloud = target > 0.5
        hit, union = hit + int((found & cloud).sum()), union + int((found | cloud).sum())
        right += int((found == cloud).sum())
    return CloudScore(hit / max(union, 1), right / (count * side**2))

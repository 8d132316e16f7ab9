"""What can be scored: a model, its reference prior alone, or the cloudy input itself. Each maps [B, C, H, W] in [0,
1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError, UsageError
from unclouded.sampling import Sampling, changed
from unclouded.scenes.bands import BandSet

if TYPE_CHECKING:
    from unclouded.restore import Restorer

Array = NDArray[Any]
What = Literal["model", "prior alone", "pure diffusion", "cloudy input"]
WHOLE_PIXELS = 1024 * 1024  # larger images go through the tiles of restore_scene


class Output(NamedTuple):
    """What a method made of a batch [B, C, H, W] in [0, 1], and the spread over its samples, if it drew several."""

    clear: NDArray[np.float32]
    spread: NDArray[np.float32] | None = None


class Method(Protocol):
    """One way to get a clear image. `what` says which, `bands` what the channels mean."""

    @property
    def what(self) -> What: ...
    @property
    def bands(self) -> BandSet | None: ...
    @property
    def frames(self) -> int:
        """How many cloudy dates it takes; its input is [B, frames·C + sar, H, W], the pair's own date first."""
        ...

    @property
    def sar(self) -> int:
        """How many bands of Sentinel-1 it takes, after the dates."""
        ...

    def restore(self, cloudy: NDArray[np.float32]) -> Output:
        """[B, C, H, W] in [0, 1] -> the same shape and range."""
        ...


@dataclass(frozen=True)
class Input:
    """The cloudy image as it is: what every method must beat. Takes any bands, or those of a model."""

    bands: BandSet | None = None
    what: What = "cloudy input"
    frames: int = 1
    sar: int = 0

    def restore(self, cloudy: NDArray[np.float32]) -> Output:
        return Output(cloudy)


@dataclass(frozen=True)
class _OfRestorer:
    """Takes what the model of its restorer takes."""

    restorer: "Restorer"

    @property
    def frames(self) -> int:
        return int(self.restorer.model.frames)

    @property
    def sar(self) -> int:
        return int(self.restorer.model.sar)

    @property
    def bands(self) -> BandSet:
        return self.restorer.bands


@dataclass(frozen=True)
class Model(_OfRestorer):
    """A restorer, sampled as its card or `sampling` says; without its reference prior (eq. 9 alone) if not
    `use_prior`."""

    sampling: Sampling
    use_prior: bool = True

    @property
    def what(self) -> What:
        return "model" if self.use_prior else "pure diffusion"

    def restore(self, cloudy: NDArray[np.float32]) -> Output:
        import torch

        restorer, sampling = self.restorer, self.sampling
        if not self.use_prior:
            restorer, sampling = without_prior(restorer, sampling)
        if self.frames == 1 and not self.sar and cloudy.shape[-2] * cloudy.shape[-1] > WHOLE_PIXELS:
            from unclouded.restore_array import restore_array

            tiled = [restore_array(image, restorer, sampling=sampling) for image in cloudy]
            return Output(np.stack(tiled).astype(np.float32))
        restored = restorer.restore(torch.from_numpy(cloudy), [(0, 0)] * len(cloudy), sampling)
        return Output(restored.clear.numpy(), None if restored.spread is None else restored.spread.numpy())


def without_prior(restorer: "Restorer", sampling: Sampling) -> "tuple[Restorer, Sampling]":
    """The same networks as pure conditional diffusion: the CNP alone, no reference and no W; and the sampling without
    what only a prior can give.

    Raises UsageError for a model that is not sampled.
    """
    import copy

    if restorer.model.schedule is None:
        raise UsageError(f"The model {restorer.card.name} has no diffusion to sample. Score the model itself.")
    plain = copy.copy(restorer)
    plain.model = copy.copy(restorer.model)
    vars(plain.model)["reference"] = lambda y: None  # a copy that shares its weights with the original
    return plain, changed(sampling, {"start": None, "self_ensemble": 1})


@dataclass(frozen=True)
class Prior(_OfRestorer):
    """The reference prior of a model, x_E = E(y), without diffusion: as `sampling` (the card's) would start from it."""

    sampling: Sampling | None = None
    what: What = "prior alone"

    def restore(self, cloudy: NDArray[np.float32]) -> Output:
        import torch

        from unclouded.models.reference import reference_answer

        y = torch.from_numpy(cloudy).to(self.restorer.device)
        sampling = self.sampling or self.restorer.card.sampling
        with torch.inference_mode():
            prior = reference_answer(self.restorer.model, y, sampling)
        if prior is None:
            raise UncloudedError(f"The model {self.restorer.card.name} has no reference prior. Leave --prior-only out.")
        return Output(prior.clamp(0, 1).cpu().numpy())


def to_unit(image: Array, bands: BandSet | None) -> NDArray[np.float32]:
    """A file's [C, H, W] to float32 in [0, 1]: by the model's bands, or, without one, uint8 / 255, other integers as
    reflectance × 10000, floats as they are."""
    if bands is None:
        names = [str(band) for band in range(len(image))]
        display = image.dtype == np.uint8
        bands = BandSet.display(*names) if display else BandSet.reflectance(*names)
    return bands.to_model(np.nan_to_num(image) if image.dtype.kind == "f" else image)


def choose_bands(image: Array, wanted: Sequence[int] | None, bands: BandSet | None, where: str) -> Array:
    """The bands (counted from 1) that the method takes, in its order."""
    if wanted:
        absent = [band for band in wanted if not 1 <= band <= len(image)]
        if absent:
            raise UsageError(f"{where} has {len(image)} bands, so there is no band {absent[0]}. Correct --bands.")
        image = image[[band - 1 for band in wanted]]
    if bands is not None and len(image) != len(bands):
        raise UsageError(
            f"{where} gives {len(image)} bands, but the model takes {len(bands)} ({', '.join(bands.names)}). "
            f"Name those bands of the file in this order with --bands, such as --bands "
            f"{','.join(str(i + 1) for i in range(len(bands)))}."
        )
    return image

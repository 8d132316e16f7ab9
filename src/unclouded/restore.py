"""Restorer: a cloudy batch goes in, the clear batch comes out, with W and the spread of several samples."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unclouded.diffusion.denoisers import Weighing
from unclouded.diffusion.noise import noise_field
from unclouded.diffusion.samplers import SAMPLERS, Step, until_settled
from unclouded.diffusion.schedule import timesteps
from unclouded.diffusion.windows import window_mean
from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.card import ModelCard
from unclouded.models.padding import crop, pad_to_multiple, with_margin, without_margin
from unclouded.models.reference import reference_mean
from unclouded.models.scales import joined, pyramid
from unclouded.restore_array import restore_array
from unclouded.sampling import SPREAD_WINDOW, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unclouded.models.base import RestorationModel
    from unclouded.scenes.bands import BandSet

Origin = tuple[int, int]
OnStep = Callable[[Step], None]


class Restored(NamedTuple):
    """What a model made of y; all [B, C, H, W], float32."""

    clear: Tensor  # in [0, 1]; the mean over the samples
    w: Tensor | None = None  # mean over steps (or of one chosen step) and samples
    spread: Tensor | None = None  # deviation over the samples around a pixel (a Restorer's: calibrated), of [0, 1]
    prior: Tensor | None = None  # the reference prior's own answer, in [0, 1]


def restore(
    model: "RestorationModel",
    y: Tensor,
    sampling: Sampling,
    origins: Sequence[Origin] | None = None,
    on_step: OnStep | None = None,
    weights_step: int | None = None,
) -> Restored:
    """Restore y [B, C, H, W] in [0, 1]. `origins` are each item's (row, col) in its scene (default 0, 0): noise is a
    function of scene position, so that overlapping tiles start alike. `on_step` sees every sampler step, of every
    sample. W is that of step `weights_step` (counted from 1), or the mean over the steps (with `sampling.settle` over
    those of the item that took most).

    With `sampling.scales` > 1 the answers of all scales are joined (models/scales.py), the prior's too; W, the spread
    and what `on_step` sees are those of y's own."""
    margin, answers = sampling.margin, []
    tell = None if on_step is None else lambda step: on_step(Step(**_inner(step, margin)))
    for scale, image in enumerate(pyramid(y, sampling.scales)):
        places = [((row >> scale) - margin, (col >> scale) - margin) for row, col in origins or [(0, 0)] * len(y)]
        seen = with_margin(image, margin)
        restored = _restore(model, seen, sampling, places, None if scale else tell, weights_step, scale)
        answers.append(Restored(**_inner(restored, margin)))
    first, share = answers[0], sampling.scale_share
    priors = [answer.prior.float() for answer in answers if answer.prior is not None]
    clear = joined([answer.clear for answer in answers], share).clamp(0, 1)
    return first._replace(clear=clear, prior=joined(priors, share) if priors else None)


def _inner(images: Step | Restored, margin: int) -> dict[str, Any]:
    """The fields, those that are images without their margin."""
    fields = images._asdict()
    return {name: without_margin(x, margin) if isinstance(x, Tensor) else x for name, x in fields.items()}


def _restore(
    model: "RestorationModel",
    y: Tensor,
    sampling: Sampling,
    origins: Sequence[Origin],
    on_step: OnStep | None,
    weights_step: int | None,
    scale: int,
) -> Restored:
    """The answer of one scale, y being at it; its margin is restored with it."""
    reference = reference_mean(model, y, sampling.self_ensemble, scale)
    if model.schedule is None:
        assert reference is not None, "an end-to-end model is its reference"
        return _decoded(getattr(model, "prior", None), y, reference, sampling, origins)
    height, width = y.shape[-2:]
    y_pad = pad_to_multiple(2 * y - 1, model.multiple)
    x_E = None if reference is None else pad_to_multiple(2 * reference - 1, model.multiple)
    denoiser = model.denoiser(y_pad, x_E, weighing(sampling))
    found, weights = _Moments(), _Mean()
    for sample in range(sampling.samples):
        noise = _noise(y_pad[:, : model.bands], origins, sampling.seed, sample * (model.schedule.T + 1))
        for step in _steps(model, denoiser, x_E, sampling, noise):
            if step.w is not None and weights_step in (None, step.index + 1):
                weights.add(step.w)
            if on_step is not None:
                on_step(step)
        found.add(crop(step.x0.float() / 2 + 0.5, height, width).clamp(0, 1))
    assert found.value is not None, "there is one sample at least"
    spread = None if found.variance is None else _deviation(found.variance)
    w = None if weights.value is None else crop(weights.value, height, width)
    return Restored(found.value, w, spread, reference)


def _deviation(variance: Tensor) -> Tensor:
    return window_mean(variance, SPREAD_WINDOW).sqrt()


def weighing(sampling: Sampling) -> Weighing:
    """What `sampling` says of W, for images in [−1, 1]."""
    tolerance = None if sampling.weight_tolerance is None else 2 * sampling.weight_tolerance
    return Weighing(sampling.weight_floor, sampling.weight_ceiling, tolerance)


def _decoded(prior: Any, y: Tensor, reference: Tensor, sampling: Sampling, origins: Sequence[Origin]) -> Restored:
    """An end-to-end network's answer; of one that knows several (CVAE), mean and spread of `samples` of them."""
    if sampling.samples == 1 or not hasattr(prior, "sample"):
        return Restored(reference.float().clamp(0, 1), prior=reference)
    if sampling.self_ensemble > 1:
        raise UsageError("Several decodes are of one image, not of turned copies. Leave self-ensemble or samples out.")
    height, width = (-(-size // prior.stride) for size in y.shape[-2:])
    noise = []
    for stream in range(sampling.samples):
        fields = [
            noise_field(sampling.seed, height, width, prior.latent, row // prior.stride, col // prior.stride, stream)
            for row, col in origins
        ]
        noise.append(torch.stack(fields).to(y))
    draws = prior.sample(y, noise).float()
    return Restored(draws.mean(0), spread=_deviation(draws.var(0)), prior=reference)


def _steps(
    model: "RestorationModel",
    denoiser: Any,
    x_E: Tensor | None,
    sampling: Sampling,
    noise: Callable[[int], Tensor],
) -> "Iterator[Step]":
    assert model.schedule is not None
    steps = timesteps(model.schedule.T, sampling.steps, sampling.spacing, start=sampling.start)
    x_T = noise(0)
    if sampling.start is not None:  # warm start: q(x_t0 | x_E) instead of pure noise
        if x_E is None:
            raise UsageError("A warm start needs a reference prior, which this model lacks. Leave `start` out.")
        x_T = model.schedule.add_noise(x_E, x_T, steps[0])
    options: dict[str, Any] = {}
    if sampling.sampler == "ddpm" or sampling.eta > 0:
        options["noise"] = lambda index: noise(index + 1)
    if sampling.eta > 0:
        options["eta"] = sampling.eta
    run: Iterator[Step] = SAMPLERS[sampling.sampler](denoiser, model.schedule, x_T, steps, **options)
    return run if sampling.settle is None else until_settled(run, 2 * sampling.settle)  # x0 is in [−1, 1]


def _noise(y: Tensor, origins: Sequence[Origin], seed: int, first_stream: int) -> Callable[[int], Tensor]:
    """Stream k of the scene's noise, for every item of the batch at its place."""
    bands, height, width = y.shape[1:]

    def draw(stream: int) -> Tensor:
        fields = [
            noise_field(seed, height, width, bands, row=row, col=col, stream=first_stream + stream)
            for row, col in origins
        ]
        return torch.stack(fields).to(y)

    return draw


class _Mean:
    """A running mean of tensors."""

    def __init__(self) -> None:
        self.value: Tensor | None = None
        self.count = 0

    def add(self, x: Tensor) -> None:
        self.count += 1
        self.value = x.float() if self.value is None else self.value + (x.float() - self.value) / self.count


class _Moments(_Mean):
    """Also their variance (Welford 1962)."""

    _squares: Tensor | None = None  # summed, of the distances from the mean

    def add(self, x: Tensor) -> None:
        before = self.value
        super().add(x)
        if before is not None and self.value is not None:
            more = (x - before) * (x - self.value)
            self._squares = more if self._squares is None else self._squares + more

    @property
    def variance(self) -> Tensor | None:
        """None of a single one."""
        return None if self._squares is None else self._squares / (self.count - 1)


class Restorer:
    """A model with its card on a device: restores batches (`restore`) and single images (call it)."""

    def __init__(
        self,
        model: "RestorationModel",
        card: ModelCard,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        sha256: str = "",
    ) -> None:
        """`sha256` is the hash of the file that the model came from, if it came from one."""
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.notes: list[str] = []  # what a user should know though nothing went wrong
        if self.precision == "bf16" and not computes_in_bf16(self.device):
            self.notes.append(
                f"This {self.device.type} has no bfloat16 instructions, so --precision bf16 is slower than fp32 here."
            )
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.model.eval()
        self.card = card
        self.sha256 = sha256
        self.compiled = compile
        if compile:  # in place, at the first batch
            for network in self.model.children():
                network.compile()

    @property
    def bands(self) -> "BandSet":
        return self.card.bands

    @property
    def frames(self) -> int:
        """Cloudy dates that the model is meant for, the scene's own among them."""
        return int(self.model.frames)

    @property
    def sar(self) -> int:
        """Bands of Sentinel-1 that it takes after them."""
        return int(self.model.sar)

    def restore(
        self,
        y: Tensor,
        origins: Sequence[Origin] | None = None,
        sampling: Sampling | None = None,
        on_step: OnStep | None = None,
        weights_step: int | None = None,
    ) -> Restored:
        """y [B, C, H, W] in [0, 1] -> Restored, on the CPU. `sampling` defaults to the card's; `weights_step` chooses
        the step (counted from 1) whose W is given, instead of their mean.

        A model of several frames takes any number of them, one after another, and one with Sentinel-1 its bands after
        them: [B, N·C + sar, H, W].
        """
        if y.ndim != 4 or not self._takes(y.shape[1]):
            radar = f" and {self.sar} of Sentinel-1 (`unclouded remove --sar FILE` gives them)" if self.sar else ""
            raise UncloudedError(
                f"The model takes batches of {self.model.bands} bands ({', '.join(self.bands.names)}){radar}, not of "
                f"shape {tuple(y.shape)}. Choose the bands that it knows."
            )
        y = _to_device(y.float(), self.device).contiguous(memory_format=torch.channels_last)
        wanted = (self.model, y, sampling or self.card.sampling, origins, on_step, weights_step)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            try:
                restored = restore(*wanted)
            except RuntimeError as error:
                if not self._uncompiled(error):
                    raise
                restored = restore(*wanted)
        clear, *others = self._calibrated(restored)
        return Restored(_to_host(clear), *(None if x is None else _to_host(x) for x in others))

    def _takes(self, channels: int) -> bool:
        dates, rest = divmod(channels - self.model.sar, self.model.bands)
        return bool(rest == 0 and (dates == 1 or (dates > 1 and self.model.frames > 1)))

    def _uncompiled(self, error: RuntimeError) -> bool:
        """Whether `error` was torch.compile's; then the networks go on as they are, and a note says so."""
        if not self.compiled:
            return False
        from torch._dynamo.exc import TorchDynamoException

        if not isinstance(error, TorchDynamoException):
            return False
        for network in self.model.children():
            network._compiled_call_impl = None  # what Module.compile() sets
        self.compiled = False
        reason = " ".join(str(error).splitlines()[:2])  # what raised it, and what was raised
        self.notes.append(f"The networks run uncompiled, since torch.compile failed: {reason}")
        return True

    def _calibrated(self, restored: Restored) -> Restored:
        """The spread times the card's factor of each band, so that it is the standard deviation of the error."""
        if restored.spread is None or not self.card.spread_scale:
            return restored
        factors = restored.spread.new_tensor(self.card.spread_scale)[:, None, None]
        return restored._replace(spread=restored.spread * factors)

    def __repr__(self) -> str:
        bands = ", ".join(self.bands.names)
        return f"<Restorer {self.card.name} of {bands}, on {self.device} in {self.precision}>"

    def __call__(self, cloudy: Any, sampling: Sampling | None = None) -> Any:
        """Restore one image of any size: array or tensor, [H, W, C] or [C, H, W] (the axis with as many entries as the
        model has bands; the last for arrays, the first for tensors, if both do). Integers are sensor units (the card's
        BandSet), floats are in [0, 1]; NaN and what a masked array masks is no data and stays. The answer is of the
        same kind, layout and dtype."""
        is_tensor = isinstance(cloudy, Tensor)
        if is_tensor:
            image = (cloudy.float() if cloudy.dtype == torch.bfloat16 else cloudy).detach().cpu().numpy()
        else:
            image = np.asanyarray(cloudy)
        axis = self._band_axis(image.shape, prefer=0 if is_tensor else -1)
        clear = np.moveaxis(restore_array(np.moveaxis(image, axis, 0), self, sampling=sampling), 0, axis)
        clear = clear if clear.flags.c_contiguous else clear.copy(order="C")  # keeps a mask
        return torch.from_numpy(clear).to(cloudy) if is_tensor else clear

    def _band_axis(self, shape: tuple[int, ...], prefer: int) -> int:
        order = (prefer, -1 - prefer)  # 0 and -1, the preferred one first
        if len(shape) == 3:
            for axis in order:
                if shape[axis] == self.model.bands:
                    return axis
        raise UncloudedError(
            f"An image of shape {shape} has no axis of {self.model.bands} bands ({', '.join(self.bands.names)}). "
            "Give [H, W, C] or [C, H, W]."
        )


def _to_device(y: Tensor, device: torch.device) -> Tensor:
    """To a GPU by way of pinned memory, from which it fetches by itself."""
    if device.type == "cuda" and y.device.type == "cpu":
        y = y.contiguous().pin_memory()
    return y.to(device, non_blocking=True)


def _to_host(x: Tensor) -> Tensor:
    """As float32; from a GPU into pinned memory, once it is there."""
    if x.device.type != "cuda":
        return x.float().cpu()
    host = torch.empty(x.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(x, non_blocking=True)
    torch.cuda.current_stream(x.device).synchronize()
    return host


def choose_device(device: str) -> torch.device:
    """ "auto" takes CUDA, then Apple's MPS, then the CPU; UsageError for a device that is not here."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).cpu()  # "meta" has devices, but no numbers
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"There is no device {device!r} on this machine. Use --device cpu or auto.") from error
    return chosen


def choose_precision(precision: str, device: torch.device) -> str:
    """ "auto" is bf16 where the device computes in it, else fp32; UsageError for an unknown name."""
    if precision == "auto":
        return "bf16" if computes_in_bf16(device) else "fp32"
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"There is no precision {precision!r}. Choose one of: auto, fp32, bf16.")
    return precision


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; where it emulates them, bf16 is slower than fp32. Older
    versions of torch cannot say for a CPU."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def load(
    name_or_path: str = "base", *, device: str = "auto", precision: str = "auto", compile: bool = False
) -> Restorer:
    """The shipped model of that name, the model file at that path, or hf://OWNER/NAME on the Hub, ready to use.

    `compile` gives the networks to torch.compile, which pays for large scenes only: on a CPU it takes about a minute
    for each network the first time (torch keeps the result), and each tile is then some 10 % faster.

    Raises UsageError for an unknown name (the known ones are named) and UncloudedError for a file that is not whole or
    cannot be fetched.
    """
    path = store.resolve(name_or_path)
    model, card = store.load(path)
    return Restorer(model, card, device, precision, compile, sha256=store.sha256(path))

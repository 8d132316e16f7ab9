"""The training loop: one generator for all stages; bars, logs and early stops belong to the caller.

Everything random at step s is drawn from (seed, stage, s), so a checkpoint needs no generator states and a resumed run
equals an uninterrupted one.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from unclouded.errors import UncloudedError, UsageError
from unclouded.models import store
from unclouded.models.base import RestorationModel
from unclouded.models.card import TrainingRecord
from unclouded.scenes.failures import make_folder, writing
from unclouded.training.checkpoint import load_checkpoint, save_checkpoint
from unclouded.training.data import Examples, batches
from unclouded.training.export import write_model
from unclouded.training.fine_tune import start_from
from unclouded.training.sources import open_pool
from unclouded.training.stages import StageModule
from unclouded.training.validation import Validation
from unclouded.training.values import Recipe, Run, Stage, StageName

LOG_EVERY = 20  # steps
SAVE_EVERY = 120  # seconds


@dataclass(frozen=True)
class Progress:
    """One step of training, as the caller sees it (and the log keeps, every LOG_EVERY steps)."""

    stage: StageName
    step: int  # steps done
    steps: int
    lr: float
    losses: dict[str, float]  # mean since the last logged step, when logged; else of this step
    images_per_second: float
    minutes: float  # spent in this stage, all runs together
    validation: dict[str, float] = field(default_factory=dict)


def train(recipe: Recipe, run: Run) -> Iterator[Progress]:
    """Train the stages of `recipe` that are not done yet, from where the checkpoints in `run.out` stand.

    Yields after every step; ends when all is done or `run.max_minutes` have passed. Interrupt it between two steps and
    it saves first. Leaves a model file with its card in `run.out` after every finished stage. Raises UsageError for
    stages that build on networks which nothing has trained, and for batches that the devices cannot share.
    """
    unknown = set(run.stages or ()) - set(recipe.stages)
    if unknown:
        raise UsageError(
            f"The recipe {recipe.name} has no stage {unknown.pop()!r}. It has: {', '.join(recipe.stages)}."
        )
    _check_shares(recipe, run)
    if run.stages is not None and recipe.init is None:
        _check_order(recipe, run, run.stages)
    deadline = time.monotonic() + 60 * run.max_minutes
    make_folder(run.out)
    fabric = _fabric(run)
    torch.manual_seed(recipe.seed)
    model = recipe.build()
    ancestor = None
    if recipe.init:
        start_from(model, recipe.init)
        ancestor = store.read_card(store.resolve(recipe.init)).training
    whole = True
    for number, (name, stage) in enumerate(recipe.stages.items()):
        if (state := _finished(recipe, run, name)) is not None:
            _load_parts(model, state["ema"])
            continue
        if run.stages is not None and name not in run.stages:
            whole = False
            continue
        trainer = _StageRun(recipe, run, fabric, model, name, stage, number)
        yield from trainer.steps(deadline)
        if not trainer.done:
            return
        _load_parts(model, trainer.ema_state())
        _export(model, recipe, run, fabric, ancestor)
    if whole and not (run.out / f"{recipe.name}.safetensors").exists():  # its checkpoints came from another run
        _export(model, recipe, run, fabric, ancestor)


def unfinished(recipe: Recipe, run: Run) -> list[StageName]:
    """The stages that `run` asks for and that its folder does not have finished."""
    return [
        name for name in recipe.stages if name in (run.stages or recipe.stages) and not _finished(recipe, run, name)
    ]


def _finished(recipe: Recipe, run: Run, stage: StageName) -> dict[str, Any] | None:
    """The checkpoint of a stage that is done; UncloudedError if it is of another recipe."""
    path = run.out / f"{stage}.ckpt"
    if not path.exists():
        return None
    state = load_checkpoint(path, _identity(recipe, stage))
    return state if state["done"] else None


def _check_shares(recipe: Recipe, run: Run) -> None:
    """UsageError where a batch is no multiple of the devices; before there is a process for each of them."""
    for name in run.stages or recipe.stages:
        size = recipe.stages[name].batch_size
        if size % run.devices:
            raise UsageError(
                f"A batch of {size} cannot be shared by {run.devices} devices. Give --devices that divide it, or set "
                f"stages.{name}.batch_size."
            )


def _check_order(recipe: Recipe, run: Run, chosen: Sequence[StageName]) -> None:
    """UsageError where a chosen stage would learn beside networks of an earlier one that were never trained."""
    refines = getattr(recipe.model, "prediction", None) == "refinement"
    building = ("weights", "joint", *(["coarse"] if refines else []))  # a CNP that restores y by itself needs no prior
    missing: list[StageName] = []
    for stage in recipe.stages:
        if stage in chosen and stage in building and missing:
            raise UsageError(
                f"The stage {stage} builds on {' and '.join(missing)}, not finished in {run.out}. Train "
                f"{'that' if len(missing) == 1 else 'those'} first, or start from a model with --set init=MODEL."
            )
        if stage not in chosen and _finished(recipe, run, stage) is None:
            missing.append(stage)


def _export(model: RestorationModel, recipe: Recipe, run: Run, fabric: Fabric, ancestor: TrainingRecord | None) -> None:
    if fabric.is_global_zero:
        write_model(run.out / f"{recipe.name}.safetensors", model, recipe, run, ancestor)


def _fabric(run: Run) -> Fabric:
    precision: Any = {"auto": None, "fp32": "32-true", "bf16": "bf16-mixed"}.get(run.precision, run.precision)
    if precision is None:
        precision = "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
    how: dict[str, Any] = {"precision": precision}
    if precision == "bf16-mixed":
        how = {"plugins": _Autocast("bf16-mixed", _device_type(run.accelerator))}
    try:
        fabric = Fabric(accelerator=run.accelerator, devices=run.devices, **how)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"Training cannot start on {run.devices} × {run.accelerator}: {error}") from error
    fabric.launch()
    return fabric


class _Autocast(MixedPrecision):
    """bf16 inside the networks alone. Fabric's own also rounds what goes in, and so the targets: to 1/256 of their
    range, as coarse as 8-bit pictures."""

    def convert_input(self, data: Any) -> Any:
        return data


def _device_type(accelerator: str) -> str:
    if accelerator != "auto":
        return {"gpu": "cuda"}.get(accelerator, accelerator)
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _identity(recipe: Recipe, stage: StageName) -> dict[str, Any]:
    """The parts of a recipe that a stage's checkpoint depends on."""
    values = json.loads(recipe.model_dump_json())
    parts = {key: values[key] for key in ("model", "bands", "sources", "seed", "units", "perceptual", "init")}
    return parts | {"stage": values["stages"][stage]}


def _load_parts(model: RestorationModel, parts: dict[str, dict[str, Tensor]]) -> None:
    for name, state in parts.items():
        if hasattr(model, name):  # a discriminator is not part of the model
            getattr(model, name).load_state_dict(state)


def workers_for(device: str, world: int, cores: int | None = None) -> int:
    """Processes that prepare data for each of `world` devices: a GPU waits for what one core can cut, a processor's
    cores have enough to do."""
    if device != "cuda":
        return 0
    return min(8, max(1, (cores or os.cpu_count() or 1) // world - 1))


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, constant, linear fall to zero over the last `decay` share."""
    rise = min(1.0, (step + 1) / (stage.warmup + 1))
    left = (stage.steps - step) / max(stage.decay * stage.steps, 1)
    return stage.lr * min(rise, left, 1.0)


class _StageRun:
    """One stage on its way: module, optimizer, EMA, log, checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        fabric: Fabric,
        model: RestorationModel,
        name: StageName,
        stage: Stage,
        number: int,
    ) -> None:
        self.recipe, self.run, self.fabric, self.name, self.stage = recipe, run, fabric, name, stage
        self.key = (recipe.seed, number)
        self.model = model
        module = StageModule(cast(nn.Module, model), name, recipe.perceptual, stage)
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = AveragedModel(nn.ModuleDict(self.module.parts()), multi_avg_fn=self._average, use_buffers=True)
        trained = [p for p in self.module.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=stage.lr, weight_decay=stage.weight_decay)
        self.wrapped, self.optimizer = fabric.setup(self.module, optimizer)
        self.ema.to(fabric.device)
        self.step = 0
        self.minutes = 0.0
        self.path = run.out / f"{name}.ckpt"
        if self.path.exists():
            self._resume()

    @property
    def done(self) -> bool:
        return self.step >= self.stage.steps

    def steps(self, deadline: float) -> Iterator[Progress]:
        bands, frames, sar = self.recipe.band_set, self.recipe.frames, self.recipe.sar
        pools = [open_pool(s, self.run.data, bands, frames, sar) for s in self.recipe.sources]
        shares = self.stage.shares or [s.weight for s in self.recipe.sources]
        examples = Examples(pools, shares, self.stage, self.key)
        validation = Validation(self.recipe, self.run.data, self.name)
        world, rank = self.fabric.world_size, self.fabric.global_rank
        device, workers = self.fabric.device.type, self.run.workers
        workers = workers_for(device, world) if workers is None else workers
        feed = batches(examples, self.step, rank=rank, world=world, workers=workers, pinned=device == "cuda")
        log = _Log(self.run.out / "log.jsonl", self.name, self.step, write=self.fabric.is_global_zero)
        saved, started, before = time.monotonic(), time.monotonic(), self.minutes
        first = self.step
        try:
            while self._goes_on(deadline):
                losses = self._step(*next(feed))
                self.minutes = before + (time.monotonic() - started) / 60
                rate = (self.step - first) * self.stage.batch_size / max(time.monotonic() - started, 1e-9)
                scores = self._validate(validation)
                yield log.add(self._progress(losses, rate, scores))
                if time.monotonic() - saved > SAVE_EVERY:
                    self._save()
                    saved = time.monotonic()
        finally:
            self._save()

    def _goes_on(self, deadline: float) -> bool:
        """Whether there is another step. The first process decides for all: one that went on alone would wait for the
        others' gradients for ever."""
        return bool(self.fabric.broadcast(not self.done and time.monotonic() < deadline))

    def _step(self, y: Tensor, x0: Tensor) -> dict[str, float]:
        lr = learning_rate(self.stage, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        y, x0 = (x.to(self.fabric.device, non_blocking=True) for x in (y, x0))
        y, x0 = (x.contiguous(memory_format=torch.channels_last) for x in (y, x0))
        losses = self.wrapped(y, x0, self._generator())
        if unknown := sorted(self.stage.loss_weights.keys() - losses.keys()):
            raise UsageError(
                f"The stage {self.name} has no loss {unknown[0]!r}. It has: {', '.join(losses)}. "
                f"Mend stages.{self.name}.loss_weights."
            )
        total = sum(self.stage.loss_weights.get(term, 1.0) * loss for term, loss in losses.items())
        if not bool(torch.isfinite(total)):
            raise UncloudedError(
                f"The loss of stage {self.name} is not finite at step {self.step}. "
                f"Lower stages.{self.name}.lr, or check the data."
            )
        self.fabric.backward(total)
        self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=self.stage.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update_parameters(nn.ModuleDict(self.module.parts()))
        self.step += 1
        return {term: float(loss.detach()) for term, loss in losses.items()}

    def _generator(self) -> torch.Generator:
        seed = np.random.SeedSequence((*self.key, self.step, self.fabric.global_rank)).generate_state(1)
        return torch.Generator().manual_seed(int(seed[0]))

    def _average(self, averaged: Any, current: Any, n: Tensor | int) -> None:
        """EMA whose decay grows with the number of steps, so that a short run does not average in its beginning."""
        decay = min(self.stage.ema, (1 + int(n)) / (10 + int(n)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:  # batch norm counts its batches
            torch._foreach_copy_(averaged, current)

    def _validate(self, validation: Validation) -> dict[str, float]:
        due = self.step % self.stage.validate_every == 0 or self.done
        if not due or not self.fabric.is_global_zero:
            return {}
        with self._averaged():
            picture = self.run.out / "samples" / f"{self.name}-{self.step:07d}.png"
            return validation(self.model, self.fabric.device, picture)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model's trained parts are their averages."""
        parts = {name: part for name, part in self.module.parts().items() if hasattr(self.model, name)}
        averaged = self.ema.module
        for name in parts:
            setattr(self.model, name, averaged[name].eval())  # type: ignore[index]
        try:
            yield
        finally:
            for name, part in parts.items():
                setattr(self.model, name, part)

    def _progress(self, losses: dict[str, float], rate: float, scores: dict[str, float]) -> Progress:
        lr = learning_rate(self.stage, self.step - 1)
        return Progress(self.name, self.step, self.stage.steps, lr, losses, rate, self.minutes, scores)

    def ema_state(self) -> dict[str, dict[str, Tensor]]:
        return {name: part.state_dict() for name, part in self.ema.module.named_children()}

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        state = {
            "recipe": _identity(self.recipe, self.name),
            "step": self.step,
            "done": self.done,
            "minutes": self.minutes,
            "model": self.module.trained_state(),
            "ema": self.ema_state(),
            "n_averaged": int(self.ema.n_averaged),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.path, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.path, _identity(self.recipe, self.name))
        for name, part in self.module.parts().items():
            part.load_state_dict(state["model"][name])
        for name, part in self.ema.module.named_children():
            part.load_state_dict(state["ema"][name])
        self.ema.n_averaged.fill_(state["n_averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.minutes = state["step"], state["minutes"]


class _Log:
    """log.jsonl: a line every LOG_EVERY steps, and at every validation. What a crash left beyond the checkpoint is
    dropped."""

    def __init__(self, path: Path, stage: str, step: int, write: bool) -> None:
        self.path, self.write = path, write
        self.since: list[dict[str, float]] = []
        if write and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if (entry := json.loads(line))["stage"] != stage or entry["step"] <= step]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, progress: Progress) -> Progress:
        self.since.append(progress.losses)
        if progress.step % LOG_EVERY and not progress.validation and progress.step < progress.steps:
            return progress
        means = {term: float(np.mean([losses[term] for losses in self.since])) for term in progress.losses}
        self.since.clear()
        logged = Progress(**(asdict(progress) | {"losses": means}))
        if self.write:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(logged)) + "\n")
        return logged


def read_log(out: Path, stages: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The learning curve that `train` wrote: one dict a line, of these stages (default: all)."""
    lines = (json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return [entry for entry in lines if stages is None or entry["stage"] in stages]

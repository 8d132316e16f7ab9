"""A recipe trained in so many minutes: each stage gets a share of them, and as many steps as its measured rate allows.

    python benchmarks/train_in_time.py de-msda-rice2 --data ../shared/data/rice2 --out runs/msda --minutes 4 \\
        --share prior=0.30 coarse=0.34 weights=0.12 joint=0.24 --precision bf16 --workers 8 --set stages.prior.lr=4e-4

For machines that are lent by the minute. The learning rate falls as the recipe says, whatever the number of steps. A
stage that is slower than its first steps were ends early and is taken as it is. OUT gets what `unclouded train` writes.
"""

import argparse
import itertools
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from unclouded.training.loop import train
from unclouded.training.recipes import recipe
from unclouded.training.values import Recipe, Run, StageName

ENDLESS = 1_000_000


def rate(chosen: Recipe, run: Run, stage: StageName, steps: int, done: list[StageName]) -> float:
    """Steps a second, of the later half of so many."""
    with tempfile.TemporaryDirectory() as folder:
        for name in done:
            (Path(folder) / f"{name}.ckpt").symlink_to((run.out / f"{name}.ckpt").resolve())
        times = []
        for _ in itertools.islice(train(chosen, replace(run, out=Path(folder), stages=(stage,))), steps):
            times.append(time.monotonic())
    later = times[len(times) // 2 :]
    return (len(later) - 1) / (later[-1] - later[0])


def with_steps(name: str, settings: list[str], stage: StageName, steps: int, scores: int) -> Recipe:
    every = -(-steps // scores)
    return recipe(name, (*settings, f"stages.{stage}.steps={steps}", f"stages.{stage}.validate_every={every}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--share", nargs="+", required=True, metavar="STAGE=SHARE", help="of the minutes, in order")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--probe", type=int, default=12, help="steps whose rate is measured")
    parser.add_argument("--scores", type=int, default=4, help="validations of each stage")
    parser.add_argument("--workers", type=int, help="default: none, for a CUDA GPU up to 8")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    if options.probe < 4:
        parser.error("the rate is that of the later half of --probe steps: give 4 or more")
    run = Run(options.data, options.out, workers=options.workers, accelerator=options.device,
              precision=options.precision)  # fmt: skip
    settings: list[str] = list(options.settings)
    done: list[StageName] = []
    for word in options.share:
        stage, _, share = word.partition("=")
        ends = time.monotonic() + 60 * options.minutes * float(share)
        found = rate(with_steps(options.recipe, settings, stage, ENDLESS, 1), run, stage, options.probe, done)
        steps = max(1, int(found * (ends - time.monotonic())))
        say(f"{stage}: {found:.2f} steps/s, so {steps} steps")
        chosen = with_steps(options.recipe, settings, stage, steps, options.scores)
        left = max(ends - time.monotonic(), 0) / 60
        for progress in train(chosen, replace(run, stages=(stage,), max_minutes=left)):
            if progress.validation:
                scores = {name: round(value, 4) for name, value in progress.validation.items()}
                say(f"{stage} {progress.step}: {progress.images_per_second:.0f} images/s {scores}")
        finish(options.out / f"{stage}.ckpt")
        settings += [f"stages.{stage}.steps={steps}", f"stages.{stage}.validate_every={-(-steps // options.scores)}"]
        done.append(stage)
    for _ in train(recipe(options.recipe, tuple(settings)), run):
        pass  # writes the model also where a stage was cut short


def finish(checkpoint: Path) -> None:
    """Take the stage as done, so that the next begins from it."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not state["done"]:
        say(f"{checkpoint.stem} is cut short at step {state['step']}")
        torch.save(state | {"done": True}, checkpoint)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""Two threads for every operation against two batches of tiles at a time with one thread each, on one model.

    python benchmarks/two_at_a_time.py [--model base] [--rounds 5] [--batches 6]

The clock says little where other work runs. The thread that calls the operations does all that is serial and its share
of the rest, so that its own processor time is what the clock would say on a quiet machine, waiting apart; of two
threads with batches of their own it is the longer one's.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from measuring import shown, spread
from unclouded.restore import Restorer, load

BATCH, SIDE = 4, 256


class Taken(NamedTuple):
    clock: float
    quiet: float  # processor time of the busiest of our own threads
    processors: float


def batches(restorer: Restorer, n: int) -> list[tuple[torch.Tensor, list[tuple[int, int]]]]:
    torch.manual_seed(0)
    origins = [[(192 * row, 192 * (BATCH * b + row)) for row in range(BATCH)] for b in range(n)]
    return [(torch.rand(BATCH, restorer.model.bands, SIDE, SIDE), places) for places in origins]


def run(
    restorer: Restorer, work: list[tuple[torch.Tensor, list[tuple[int, int]]]], at_a_time: int
) -> list[torch.Tensor]:
    def share(first: int) -> tuple[float, list[torch.Tensor]]:
        before = time.thread_time()
        done = [restorer.restore(y, origins).clear for y, origins in work[first::at_a_time]]
        return time.thread_time() - before, done

    with ThreadPoolExecutor(at_a_time) as pool:
        shares = list(pool.map(share, range(at_a_time)))
    run.quiet = max(seconds for seconds, _ in shares)  # type: ignore[attr-defined]
    return [shares[i % at_a_time][1][i // at_a_time] for i in range(len(work))]


def measured(function: Callable[[], list[torch.Tensor]]) -> tuple[Taken, list[torch.Tensor]]:
    clock, processors = time.perf_counter(), time.process_time()
    answer = function()
    return Taken(time.perf_counter() - clock, run.quiet, time.process_time() - processors), answer  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=6)
    options = parser.parse_args()
    restorer = load(options.model, device="cpu")
    work = batches(restorer, options.batches)
    ways = {"one thread": (1, 1), "two for every operation": (2, 1), "two batches at a time": (1, 2)}
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    answers = {}
    run(restorer, work[:2], 1)  # warm up
    for _ in range(options.rounds):
        for name, (threads, at_a_time) in ways.items():
            torch.set_num_threads(threads)
            seconds, answers[name] = measured(lambda n=at_a_time: run(restorer, work, n))
            taken[name].append(seconds)
    first = answers["one thread"]
    for name, seconds in taken.items():
        columns = [f"{what} {shown(spread([getattr(s, what) for s in seconds]))}" for what in Taken._fields]
        same = all(map(torch.equal, answers[name], first))
        print(f"{name:24} {'   '.join(columns)} s   {'equal to the bit' if same else 'differs'}")
    two, pairs = taken["two for every operation"], taken["two batches at a time"]
    for what in Taken._fields:
        ratios = [getattr(a, what) / getattr(b, what) for a, b in zip(two, pairs, strict=True)]
        print(f"two batches at a time are {shown(spread(ratios))} times as fast: {what}")


if __name__ == "__main__":
    main()

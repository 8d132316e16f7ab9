"""The speed tables of `make bench`: alternating runs in one process, ratios with min, median and max, stored as JSON.

    python benchmarks/run.py [--model NAME|FILE] [--data ../shared/data] [--rounds 3] [--quick] [--out bench.json]

(a) one evaluation at the size of the paper, ours against the plain form; (b) a tile of 256² through every shipped
model, its `balanced` point against `paper` in the plain form, and its cost in quality; (c) seconds per megapixel of
whole scenes, and what clear and partly cloudy ones cost; (d) and (e), the share of the floor reached and the
peak memory, stand in every table.
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import evaluation
import scenes
import tile
from measuring import machine
from unclouded.datasets.pairs import read_pairs
from unclouded.evaluation.evaluate import spread_out
from unclouded.models import store
from unclouded.restore import Restorer, load

DATA = Path(os.environ.get("UNCLOUDED_DATA", "../shared/data"))
PAIRS = ("rice2", "rice2-val")  # of three bands


def models(names: list[str]) -> list[Restorer]:
    """Those asked for, else all that ship, else an untrained one."""
    found = [load(name, device="cpu") for name in names or store.shipped()]
    if not found:
        say("No model ships with this installation: an untrained one shows the speed, not the quality.")
    return found or [tile.untrained()]


def tiles(restorers: list[Restorer], rates: dict[str, Any], data: Path, rounds: int) -> list[dict[str, Any]]:
    found = []
    for restorer in restorers:
        result = tile.measure(restorer, rates, rounds)
        why_not = without_quality(restorer, data)
        if why_not is None:
            pairs = spread_out(read_pairs(data / PAIRS[0], PAIRS[1]), tile.LEAST_PAIRS)
            result["quality"] = tile.quality(restorer, pairs)
        print(tile.table(result), end="\n\n", flush=True)
        if why_not is not None:
            say(f"Quality of {restorer.card.name} not compared: {why_not}.")
        found.append(result)
    return found


def without_quality(restorer: Restorer, data: Path) -> str | None:
    """Why the quality cannot be compared; None if it can."""
    if restorer.card.training is None:
        return "it is not trained"
    if restorer.model.bands != 3:
        return f"there are no real pairs of its {restorer.model.bands} bands at hand"
    return None if (data / PAIRS[0]).is_dir() else f"there are no pairs in {data / PAIRS[0]}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="instead of all that ship; may be repeated")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds rice2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the whole scenes")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()

    rates, restorers = machine(), models(options.model)
    multiplied = ", ".join(f"{rate:.0f} GFLOP/s {name}" for name, rate in rates["matrix_gflops"].items())
    print(f"{rates['processor']}, {rates['threads']} threads: {multiplied}, "
          f"{rates['copy_gigabytes_per_second']:.0f} GB/s copied", end="\n\n", flush=True)  # fmt: skip
    result: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": rates}
    result["evaluation"] = evaluation.measure(["plain", "bf16"], rates, rounds=options.rounds)
    print(evaluation.table(result["evaluation"]), end="\n\n", flush=True)
    result["tiles"] = tiles(restorers, rates, options.data, options.rounds)
    if not options.quick:
        result["scenes"] = scenes.measure(restorers[0], rounds=2)
        print(scenes.table(result["scenes"]))
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    say(f"Stored in {options.out}.")


if __name__ == "__main__":
    main()

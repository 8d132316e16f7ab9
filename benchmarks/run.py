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
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import evaluation
import scenes
import tile
from held_out import sentinel2_pairs
from measuring import machine
from unclouded.datasets.pairs import Pair, read_pairs
from unclouded.evaluation.evaluate import spread_out
from unclouded.models import store
from unclouded.restore import Restorer, computes_in_bf16, load

DATA = Path(os.environ.get("UNCLOUDED_DATA", "../shared/data"))


def models(names: list[str]) -> list[Restorer]:
    """Those asked for, else all that ship, else an untrained one."""
    found = [load(name, device="cpu") for name in names or store.shipped()]
    if not found:
        say("No model ships with this installation: an untrained one shows the speed, not the quality.")
    return found or [tile.untrained()]


def ours() -> str:
    """The variant of one evaluation that a Restorer runs by default on this processor."""
    return "bf16" if computes_in_bf16(torch.device("cpu")) else "channels_last"


def tiles(restorers: list[Restorer], rates: dict[str, Any], data: Path, rounds: int) -> list[dict[str, Any]]:
    found = []
    for restorer in restorers:
        result = tile.measure(restorer, rates, rounds)
        why_not = without_quality(restorer, data)
        if why_not is None:
            with tempfile.TemporaryDirectory() as folder:
                result["quality"] = tile.quality(restorer, real_pairs(restorer.model.bands, data, Path(folder)))
        print(tile.table(result), end="\n\n", flush=True)
        if why_not is not None:
            say(f"Quality of {restorer.card.name} not compared: {why_not}.")
        found.append(result)
    return found


def real_pairs(bands: int, data: Path, folder: Path) -> list[Pair]:
    """RICE2's validation list for three bands; for four, overlapping quarters of SEN12MS-CR pairs, written to `folder`:
    there are 18 that do not overlap."""
    if bands == 3:
        return spread_out(read_pairs(data / "rice2", "rice2-val"), tile.LEAST_PAIRS)
    found = read_pairs(sentinel2_pairs(data, folder, step=64))
    return spread_out(found, tile.LEAST_PAIRS)


def without_quality(restorer: Restorer, data: Path) -> str | None:
    """Why the quality cannot be compared; None if it can."""
    if restorer.card.training is None:
        return "it is not trained"
    folder = {3: "rice2", 4: "sen12mscr"}.get(restorer.model.bands)
    if folder is None:
        return f"there are no real pairs of its {restorer.model.bands} bands at hand"
    return None if (data / folder).is_dir() else f"there are no pairs in {data / folder}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], help="instead of all that ship; may be repeated")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds rice2 and sen12mscr")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="without the whole scenes")
    parser.add_argument("--out", type=Path, default=Path("bench.json"))
    options = parser.parse_args()

    rates, restorers = machine(), models(options.model)
    multiplied = ", ".join(f"{rate:.0f} GFLOP/s {name}" for name, rate in rates["matrix_gflops"].items())
    print(f"{rates['processor']}, {rates['threads']} threads: {multiplied}, "
          f"{rates['copy_gigabytes_per_second']:.0f} GB/s copied", end="\n\n", flush=True)  # fmt: skip
    result: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": rates}
    result["evaluation"] = evaluation.measure(["plain", ours()], rates, rounds=options.rounds)
    print(evaluation.table(result["evaluation"]), end="\n\n", flush=True)
    result["tiles"] = tiles(restorers, rates, options.data, options.rounds)
    if not options.quick:
        result["scenes"] = scenes.measure(restorers[0], options.rounds)
        print(scenes.table(result["scenes"]))
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    say(f"Stored in {options.out}.")


if __name__ == "__main__":
    main()

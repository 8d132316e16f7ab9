"""Quick start: seconds from the start of the process to the first restored tile of `unclouded remove`.

    python benchmarks/first_tile.py [--model base] [--rounds 3] [--imports]

Each round starts the command anew on a scene of one tile and stops it when that tile is restored; beside it stand
`import unclouded` and `unclouded --help`. `--imports` prints the modules that took longest to import.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measuring import Seconds, shown, spread
from scenes import picture, write

# remove, until a tile has gone through the model
FIRST_TILE = """
import os, sys
import unclouded.cli
from unclouded import whole_scene as _
import unclouded.strips as strips
real = strips.restore_batch
def restore_batch(*args):
    real(*args)
    os._exit(0)
strips.restore_batch = restore_batch
unclouded.cli.main(["remove", *sys.argv[1:]])
"""


def started(command: Sequence[str | Path]) -> Seconds:
    """The clock and the processor time of a process from its start to its end."""
    clock, before = time.perf_counter(), _children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ))
    return Seconds(time.perf_counter() - clock, _children() - before)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source = write(Path(name, "scene.tif"), picture(3, 256))
        remove = [
            sys.executable,
            "-c",
            FIRST_TILE,
            source,
            Path(name, "out.tif"),
            "--model",
            options.model,
            "--overwrite",
        ]
        commands: dict[str, list[str | Path]] = {
            "import unclouded": [sys.executable, "-c", "import unclouded"],
            "unclouded --help": [sys.executable, "-m", "unclouded", "--help"],
            "first tile of remove": remove,
        }
        if options.imports:
            _print_imports(remove)
        taken = {what: [started(command) for _ in range(options.rounds)] for what, command in commands.items()}
    for what, seconds in taken.items():
        clock, processors = (spread([s[i] for s in seconds]) for i in range(2))
        print(f"{what:22} {shown(clock)} s (min median max), {shown(processors)} s of processors")


def _print_imports(command: Sequence[str | Path], most: int = 25) -> None:
    run = subprocess.run([command[0], "-X", "importtime", *command[1:]], check=True, capture_output=True, text=True)
    lines = [line.removeprefix("import time:").split("|") for line in run.stderr.splitlines() if "|" in line][1:]
    slowest = sorted(lines, key=lambda parts: -int(parts[1]))[:most]
    for own, whole, module in slowest:
        print(f"{int(whole) / 1e6:6.2f} s with its own imports, {int(own) / 1e6:5.2f} s without  {module.strip()}")


if __name__ == "__main__":
    main()

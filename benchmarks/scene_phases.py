"""Where the time of a whole scene goes: processor seconds of every phase of `restore_scene` with a model that costs
nothing.

    python benchmarks/scene_phases.py [--side 10000] [--clear]

Prints seconds of each phase by the clock and in processor time, without those of phases within it, over all threads;
phases of different threads overlap, so that the clock's do not add up. GDAL compresses in threads of its own, which
are what is left of the process' time. `--clear` gives a mask that marks nothing.
"""

import argparse
import functools
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import timed
from scene_memory import Identity, copy_seconds, make_scene, write_clear

# phase -> module, and the functions or methods that are it
PHASES = {
    "open, plan, first look": ("unclouded.whole_scene", ["plan"]),
    "read and decode": ("unclouded.scenes.raster", ["RasterScene.read", "RasterScene.thumbnail"]),
    "scene numbers to model range": ("unclouded.strips", ["read_strips"]),
    "mask": ("unclouded.scenes.masks", ["FileMask.opacity"]),
    "tiles to the model": ("unclouded.strips", ["_restore_tiles"]),
    "blend": ("unclouded.scenes.blend", ["Blender.add", "Blender.release"]),
    "compose and count": ("unclouded.whole_scene", ["store", "Finished.read"]),
    "store rows": ("unclouded.scenes.partial", ["Partial.append", "Partial.next_panel"]),
    "load rows": ("unclouded.scenes.partial", ["Partial.read"]),
    "encode and write": ("unclouded.scenes.products", ["_write"]),
    "compare a COG": ("unclouded.scenes.output", ["_check_copy"]),
    "sync and rename": ("unclouded.scenes.products", ["_move"]),
}


class Clock:
    """Own seconds of every phase (clock, processor), the phases within it taken off, over all threads."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._local = threading.local()
        self._lock = threading.Lock()

    def _enter(self, phase: str | None) -> str | None:
        """What was spent since the last change belongs to the phase that was on."""
        now, local = (time.perf_counter(), time.thread_time()), self._local
        before: str | None = getattr(local, "phase", None)
        if before is not None:
            with self._lock:
                for i in range(2):
                    self.taken[before][i] += now[i] - local.since[i]
        local.phase, local.since = phase, now
        return before

    def wrap(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            before = self._enter(phase)
            try:
                answer = function(*args, **named)
                return self._each(phase, answer) if hasattr(answer, "__next__") else answer
            finally:
                self._enter(before)

        return timed

    def _each(self, phase: str, items: Any) -> Any:
        """A generator's own time is that between `next` and `yield`."""
        while True:
            before = self._enter(phase)
            try:
                item = next(items, None)
            finally:
                self._enter(before)
            if item is None:
                return
            yield item


def install(clock: Clock) -> None:
    from importlib import import_module

    for phase, (module, names) in PHASES.items():
        for name in names:
            *outer, last = name.split(".")
            owner = functools.reduce(getattr, outer, import_module(module))
            setattr(owner, last, clock.wrap(phase, getattr(owner, last)))


def run(source: Path, target: Path, mask: Path | None) -> None:
    from unclouded.whole_scene import restore_scene

    clock = Clock()
    install(clock)
    seconds, processors = timed(lambda: restore_scene(source, target, model=Identity(), mask=mask, overwrite=True))
    named = sum(cpu for _, cpu in clock.taken.values())
    rows = [
        *((phase, *clock.taken[phase]) for phase in PHASES),
        ("GDAL's threads and the rest", 0.0, processors - named),
    ]
    for phase, wall, cpu in rows:
        print(f"{phase:30} {wall:6.2f} s   {cpu:6.2f} s of processors   {100 * cpu / processors:3.0f} %")
    print(f"{'all':30} {seconds:6.2f} s   {processors:6.2f} s of processors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10000)
    parser.add_argument("--clear", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the scene here between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        source, mask = folder / f"{options.side}.tif", folder / f"{options.side}_mask.tif"
        if not source.exists():
            make_scene(source, options.side)
        if options.clear and not mask.exists():
            write_clear(mask, options.side)
        run(source, folder / "out.tif", mask if options.clear else None)
        copying = copy_seconds(source, folder / "copy.tif")
        print(f"{'a copy by GDAL':30} {copying.clock:6.2f} s   {copying.processors:6.2f} s of processors")


if __name__ == "__main__":
    main()

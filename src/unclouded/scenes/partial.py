"""The unfinished result of a scene: a folder beside the output that holds finished rows and can be gone on with.

Every layer (the scene, its uncertainty, …) is a file of raw rows, [band, column] each, appended row of tiles by row of
tiles. `progress.json` is written after the rows are safely on disk and says how many count, so a crash at any moment
loses at most the rows of tiles in work. The final name is taken only by a whole file, at the end.

Rows in which the mask marks nothing are not stored: they are holes in the file, noted in `progress.json` as `kept`, and
come from the scene when they are asked for.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError
from unclouded.scenes.failures import writing
from unclouded.scenes.provenance import today
from unclouded.scenes.tiles import Window

Array = NDArray[Any]
ReadKept = Callable[[str, Window], Array]  # (layer, window of the scene) -> [bands, h, w]
PROGRESS = "progress.json"
DATE = "date"  # of the run's beginning: kept, not compared


@dataclass(frozen=True)
class Layer:
    """The shape of one layer's rows: `bands` × scene width of `dtype`."""

    bands: int
    dtype: np.dtype[Any]


def partial_folder(output: Path) -> Path:
    return output.parent / f".{output.name}.partial"


def earlier_plan(output: Path) -> dict[str, Any]:
    """The plan of the unfinished run of `output`; empty if there is none that can be read (`resume` then says so)."""
    try:
        return dict(json.loads((partial_folder(output) / "plan.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


class Partial:
    """Finished rows of all layers. Make one with `create` or `resume`."""

    def __init__(
        self,
        folder: Path,
        output: Path,
        layers: Mapping[str, Layer],
        panels: Sequence[tuple[int, int]],
        read_kept: ReadKept,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        progress = progress or {}
        self.folder = folder
        self.panel = int(progress.get("panel", 0))  # the one in work, of `panels`
        self.rows_done = int(progress.get("rows", 0))  # of that panel
        self.counts = Counter(progress.get("counts", {}))  # of the rows that are stored
        self.panels = tuple(panels)
        self.date = ""
        self._output = output
        self._layers = dict(layers)
        self._read_kept = read_kept
        self._kept = [Window(*map(int, kept)) for kept in progress.get("kept", [])]

    @property
    def begun(self) -> bool:
        return self.panel > 0 or self.rows_done > 0

    @classmethod
    def create(
        cls,
        output: Path,
        layers: Mapping[str, Layer],
        panels: Sequence[tuple[int, int]],
        plan: Mapping[str, Any],
        read_kept: ReadKept,
    ) -> Self:
        """A fresh folder beside `output`; one that an earlier run left is replaced. `plan` identifies the run."""
        folder = partial_folder(output)
        fresh = cls(_aside(folder, "new"), output, layers, panels, read_kept)
        fresh.date = today()
        with writing(output):
            fresh.remove()
            fresh.folder.mkdir()
            for name in layers:
                for panel in range(len(panels)):
                    fresh._file(name, panel).touch()
            _write_json(fresh.folder / "plan.json", {**plan, DATE: fresh.date})
            fresh._save()
            _discard(folder)
            fresh.folder.rename(folder)
        fresh.folder = folder
        return fresh

    @classmethod
    def resume(
        cls,
        output: Path,
        layers: Mapping[str, Layer],
        panels: Sequence[tuple[int, int]],
        plan: Mapping[str, Any],
        read_kept: ReadKept,
    ) -> Self:
        """Go on with the folder beside `output`.

        Raises UncloudedError if there is none, if it is damaged, or if the run it belongs to differs from `plan`.
        """
        folder = partial_folder(output)
        if not folder.is_dir():
            raise UncloudedError(f"There is no unfinished run of {output} to resume. Run without --resume.")
        try:
            earlier = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
            progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            self = cls(folder, output, layers, panels, read_kept, progress)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UncloudedError(f"The unfinished run in {folder} is damaged. Run without --resume.") from error
        date = str(earlier.pop(DATE, today()))
        _compare(earlier, json.loads(json.dumps(plan)))
        self.date = date
        self._cut()
        return self

    def append(self, top: int, rows: Mapping[str, Array], counts: Mapping[str, int] | None = None) -> None:
        """Store finished rows of the panel in work from scene row `top` on, name of layer → [bands, n, width of the
        panel], and add to `counts`. Rows above `top` that were not given are kept as they are in the scene.

        They count once this returns.
        """
        with writing(self._output):
            for name, layer in self._layers.items():
                with self._file(name, self.panel).open("r+b") as file:
                    file.seek(top * self._row_bytes(layer, self.panel))
                    file.write(np.ascontiguousarray(rows[name].transpose(1, 0, 2), layer.dtype).data)
                    file.flush()
                    os.fsync(file.fileno())
            self._keep_to(top)
            self.rows_done = top + next(iter(rows.values())).shape[1]
            self.counts.update(counts or {})
            self._save()

    def next_panel(self, bottom: int) -> None:
        """The panel in work is finished to the scene's bottom; the rows that were not given are kept."""
        with writing(self._output):
            self._keep_to(bottom)
            for name, layer in self._layers.items():
                os.truncate(self._file(name, self.panel), bottom * self._row_bytes(layer, self.panel))
            self.panel, self.rows_done = self.panel + 1, 0
            self._save()

    def _keep_to(self, bottom: int) -> None:
        left, right = self.panels[self.panel]
        if bottom > self.rows_done:
            self._kept.append(Window(self.rows_done, left, bottom - self.rows_done, right - left))
            self.rows_done = bottom

    def kept(self, row: int, rows: int) -> list[Window]:
        """The windows among these scene rows that are not stored."""
        cut = [(kept, max(kept.row, row), min(kept.bottom, row + rows)) for kept in self._kept]
        return [Window(top, kept.col, bottom - top, kept.width) for kept, top, bottom in cut if bottom > top]

    def read(self, name: str, row: int, rows: int) -> Array:
        """Finished rows of one layer, [bands, rows, width of the scene]."""
        kept, width = self.kept(row, rows), self.panels[-1][1]
        if sum(window.height * window.width for window in kept) == rows * width:
            return self._read_kept(name, Window(row, 0, rows, width))
        values = self._stored(name, row, rows)
        for window in kept:
            values[:, window.row - row : window.bottom - row, window.cols] = self._read_kept(name, window)
        return values

    def _stored(self, name: str, row: int, rows: int) -> Array:
        layer = self._layers[name]
        parts = []
        for panel, (left, right) in enumerate(self.panels):
            count = rows * layer.bands * (right - left)
            offset = row * self._row_bytes(layer, panel)
            raw = np.fromfile(self._file(name, panel), layer.dtype, count, offset=offset)
            parts.append(raw.reshape(rows, layer.bands, right - left).transpose(1, 0, 2))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def thumbnail(self, name: str, height: int, longest: int) -> Array:
        """Every n-th row and column of a finished layer of `height` rows, both sides ≤ `longest`, [bands, h, w]."""
        step = max(1, -(-max(height, self.panels[-1][1]) // longest))
        return np.concatenate([self.read(name, row, 1)[:, :, ::step] for row in range(0, height, step)], axis=1)

    def remove(self) -> None:
        """Take the folder away; a run that is killed meanwhile leaves no folder that looks unfinished."""
        _discard(self.folder)

    def _save(self) -> None:
        kept = [astuple(window) for window in self._kept]
        progress = {"panel": self.panel, "rows": self.rows_done, "counts": self.counts, "kept": kept}
        _write_json(self.folder / PROGRESS, progress)

    def _file(self, name: str, panel: int) -> Path:
        return self.folder / f"{name}.{panel}.rows"

    def _row_bytes(self, layer: Layer, panel: int) -> int:
        left, right = self.panels[panel]
        return layer.bands * (right - left) * layer.dtype.itemsize

    def _cut(self) -> None:
        """Drop rows of the panel in work that were being written when the run stopped."""
        for name, layer in self._layers.items():
            if self.panel < len(self.panels):
                size = self.rows_done * self._row_bytes(layer, self.panel)
                path = self._file(name, self.panel)
                if not path.is_file() or path.stat().st_size < size:
                    raise UncloudedError(f"The unfinished run in {self.folder} is damaged. Run without --resume.")
                os.truncate(path, size)


def _aside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")


def _discard(folder: Path) -> None:
    done = _aside(folder, "done")
    shutil.rmtree(done, ignore_errors=True)
    if folder.exists():
        folder.rename(done)
        shutil.rmtree(done, ignore_errors=True)


def _compare(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        raise UncloudedError(
            f"The unfinished run had {key} {_say(earlier.get(key))}, and this one has {_say(now.get(key))}. "
            f"Repeat the same input, model and options, or run without --resume."
        )


def _say(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` so that a crash leaves the old or the new content, never a mixture."""
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)

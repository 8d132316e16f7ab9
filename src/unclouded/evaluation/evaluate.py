"""Score a method on pairs, image by image; the same images and options give the same numbers."""

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets.pairs import Pair
from unclouded.errors import UncloudedError, UsageError
from unclouded.evaluation.methods import Method, choose_bands, to_unit
from unclouded.evaluation.metrics import Mask, Protocol, ratios
from unclouded.evaluation.statistics import Comparison, Interval, bootstrap, bootstrap_ratio, compare
from unclouded.scenes.bands import backscatter
from unclouded.scenes.failures import writing
from unclouded.text_files import read_table

Array = NDArray[np.float32]
CLOUD_THRESHOLD = 0.1  # a pixel counts as cloudy where a band differs from the clear image by more than this, of [0, 1]
PARTS = ("", "cloudy_", "clear_")  # all pixels, the cloudy ones, the clear ones


@dataclass(frozen=True)
class Score:
    """One image: its metrics on all pixels, and with the prefixes cloudy_ and clear_ on those pixels alone."""

    stem: str
    height: int
    width: int
    cloud_share: float
    values: dict[str, float] = field(default_factory=dict)
    images: "Images | None" = field(default=None, repr=False, compare=False)


class Images(NamedTuple):
    """What was compared, each [C, H, W] in [0, 1]; `cloudy` [H, W] says which pixels were under cloud."""

    restored: Array
    clear: Array
    spread: Array | None
    cloudy: Mask | None = None


def evaluate(
    method: Method,
    pairs: Sequence[Pair],
    protocol: Protocol,
    *,
    bands: Sequence[int] | None = None,
    batch_size: int = 1,
    cloud_threshold: float = CLOUD_THRESHOLD,
    more: Callable[[Array, Array], dict[str, float]] | None = None,
    shrink: int = 1,
) -> Iterator[Score]:
    """Yield each pair's Score in order. `bands` (counted from 1) chooses among the files' bands; `more` gives further
    metrics of (restored, clear); `shrink` averages blocks of shrink×shrink pixels first (a coarser ground sample
    distance).

    Images of one size may share a batch; noise depends on the place in the image alone, so batches do not matter.
    """
    for first in range(0, len(pairs), batch_size):
        group = pairs[first : first + batch_size]
        loaded = [load(pair, method, bands, shrink) for pair in group]
        for pair, (cloudy, clear), (restored, spread) in zip(group, loaded, _restore(method, loaded), strict=True):
            mask = (np.abs(cloudy[: len(clear)] - clear) > cloud_threshold).any(axis=0)
            values = protocol(restored, clear, None) | (more(restored, clear) if more else {})
            values |= _apart(protocol, restored, clear, mask)
            images = Images(restored, clear, spread, mask)
            height, width = mask.shape
            yield Score(pair.stem, height, width, float(mask.mean()), values, images)


def load(pair: Pair, method: Method, bands: Sequence[int] | None = None, shrink: int = 1) -> tuple[Array, Array]:
    """What the method takes, [frames·C + sar, H, W], and the clear image [C, H, W], in [0, 1].

    Raises UncloudedError for a pair without the Sentinel-1 image that the method takes.
    """

    def ready(image: NDArray[Any], path: Path) -> Array:
        return _shrunk(to_unit(choose_bands(image, bands, method.bands, str(path)), method.bands), shrink)

    frames = pair.read_frames(method.frames) if method.frames > 1 else [pair.read_cloudy()]
    seen = [ready(frame, pair.cloudy) for frame in frames]
    if method.sar:
        radar = pair.read_sar()
        if radar is None:
            raise UncloudedError(
                f"{pair.cloudy} has no Sentinel-1 image, which the model takes. Leave it out by --split."
            )
        seen.append(_shrunk(backscatter(radar), shrink))
    return np.concatenate(seen), ready(pair.read_clear(), pair.clear)


def _shrunk(image: Array, factor: int) -> Array:
    """The mean of each factor×factor block; rows and columns that do not fill one are left out."""
    bands, rows, cols = (image.shape[0], *(n // factor for n in image.shape[1:]))
    blocks = image[:, : rows * factor, : cols * factor].reshape(bands, rows, factor, cols, factor)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _restore(method: Method, loaded: Sequence[tuple[Array, Array]]) -> list[tuple[Array, Array | None]]:
    """Restore in batches of one shape; the answers (restored, spread) are in the order of `loaded`."""
    answers: dict[int, tuple[Array, Array | None]] = {}
    for shape in sorted({cloudy.shape for cloudy, _ in loaded}):
        members = [i for i, (cloudy, _) in enumerate(loaded) if cloudy.shape == shape]
        output = method.restore(np.stack([loaded[i][0] for i in members]))
        spreads = [None] * len(members) if output.spread is None else list(output.spread)
        answers |= zip(members, zip(output.clear, spreads, strict=True), strict=True)
    return [answers[i] for i in range(len(loaded))]


def _apart(protocol: Protocol, restored: Array, clear: Array, mask: Mask) -> dict[str, float]:
    """The metrics on cloudy and on clear pixels; left out where no SSIM window is centred on one."""
    values: dict[str, float] = {}
    for prefix, chosen in zip(PARTS[1:], (mask, ~mask), strict=True):
        if chosen[5:-5, 5:-5].any():
            values |= {prefix + name: value for name, value in protocol(restored, clear, chosen).items()}
    return values


def summarise(scores: Sequence[Score], prefix: str = "") -> dict[str, Interval]:
    """Mean and 95 % bootstrap interval over the images of each metric with that prefix ("", "cloudy_" or "clear_").

    Sharpness and band bias are ratios of sums, since the ratio of one flat or dark image says nothing.
    """
    names = dict.fromkeys(name for score in scores for name in score.values)
    chosen = [n.removeprefix(prefix) for n in names if n.startswith(prefix) and (prefix or _whole(n))]
    parts = ratios(chosen)

    def column(name: str) -> list[float]:
        return [score.values.get(prefix + name, math.nan) for score in scores]

    means = [name for name in chosen if not any(name in pair for pair in parts.values())]
    summary = {name: bootstrap(column(name)) for name in means}
    return summary | {name: bootstrap_ratio(column(above), column(below)) for name, (above, below) in parts.items()}


def _whole(name: str) -> bool:
    """Whether a value is of all pixels."""
    return not name.startswith(PARTS[1:])


def as_json(interval: Interval) -> dict[str, float | None]:
    """An interval for JSON, which has no NaN."""
    return {key: round(value, 6) if math.isfinite(value) else None for key, value in interval._asdict().items()}


def write_csv(path: Path, scores: Sequence[Score]) -> None:
    """One line an image, so that any other summary can be made from it."""
    names = list(dict.fromkeys(name for score in scores for name in score.values))
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stem", "height", "width", "cloud_share", *names])
        for s in scores:
            cells = [repr(s.values[n]) if n in s.values else "" for n in names]
            writer.writerow([s.stem, s.height, s.width, f"{s.cloud_share:.6f}", *cells])


def read_csv(path: Path) -> dict[str, dict[str, float]]:
    """Stem -> metrics, of a file that `write_csv` wrote, or of the folder that `unclouded evaluate --out` did."""
    path = path / "per_image.csv" if path.is_dir() else path
    if not path.exists():
        raise UncloudedError(f"There is no {path}. Give a folder of `unclouded evaluate --out`, or its per-image CSV.")
    rows = read_table(path).rows
    try:
        if not rows:
            raise ValueError("it has no rows")
        skip = {"stem", "height", "width", "cloud_share"}
        return {row["stem"]: {k: float(v) for k, v in row.items() if k not in skip and v} for row in rows}
    except (KeyError, ValueError) as error:
        raise UncloudedError(
            f"{path} is not a per-image CSV of `unclouded evaluate --out` ({error}). Give such a file."
        ) from error


def compare_with(scores: Sequence[Score], other: Mapping[str, Mapping[str, float]]) -> dict[str, Comparison]:
    """Paired test of these scores minus another evaluation's (`read_csv`), on the images of both."""
    shared = [score for score in scores if score.stem in other]
    if not shared:
        raise UsageError(
            f"The other run has none of the {len(scores)} images that were scored. Compare runs on one data set."
        )
    parts = {name for pair in ratios(shared[0].values).values() for name in pair}
    names = [n for n in shared[0].values if n in other[shared[0].stem] and _whole(n) and n not in parts]

    def column(name: str) -> tuple[list[float], list[float]]:
        return [s.values.get(name, math.nan) for s in shared], [other[s.stem].get(name, math.nan) for s in shared]

    return {name: compare(*column(name)) for name in names}


def spread_out(pairs: Sequence[Any], limit: int | None) -> list[Any]:
    """At most `limit` of the pairs, evenly spaced over the list (neighbours are often alike)."""
    if limit is None or limit >= len(pairs):
        return list(pairs)
    return [pairs[i * len(pairs) // limit] for i in range(limit)]

"""Pairs of a cloudy and a clear image, listed explicitly and checked before the first one is used.

A data folder is one of

- a folder with `cloud/` and `label/`, whose files have equal stems (PNG, JPEG, WebP or TIFF);
- a CSV manifest (a file, or `pairs.csv` in a folder) with the columns `cloudy,clear[,split][,stem]`, and perhaps
  `cloudy_nir,clear_nir` for near infrared in files of its own, `dates` for further cloudy images of the place (with `;`
  between them) and `sar` for Sentinel-1's VV and VH in dB; paths are relative to the CSV;
- the layout of a known data set (`datasets/catalog.py`), asked for by its name.

Files are matched by name, never by their position in a listing. A missing partner, or partners of different size, band
count or dtype, is an error that names the file.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unclouded.datasets import splits
from unclouded.datasets.images import ImageFacts, image_facts, is_image, read_image
from unclouded.errors import UncloudedError, UsageError
from unclouded.text_files import read_table

__all__ = ["Pair", "check_pairs", "list_images", "read_image", "read_pairs", "read_targets", "select"]

MANIFEST = "pairs.csv"
CLOUDY_FOLDER, CLEAR_FOLDER = "cloud", "label"


@dataclass(frozen=True)
class Pair:
    """One place seen twice: `cloudy` is what the model gets, `clear` what it should give.

    `more_cloudy` and `more_clear` hold one further band each, the first of its file (CUHK-CR keeps near infrared
    apart). `dates` are more cloudy images of the place, for models that take several; `sar` are Sentinel-1 images in
    dB, VV and VH. `part` is the data set's own split.
    """

    stem: str
    cloudy: Path
    clear: Path
    more_cloudy: tuple[Path, ...] = ()
    more_clear: tuple[Path, ...] = ()
    dates: tuple[Path, ...] = ()
    sar: tuple[Path, ...] = ()
    part: str | None = None

    def read_cloudy(self) -> NDArray[np.generic]:
        """The cloudy image [C, H, W] with all its bands, in the files' dtype."""
        return _stack(self.cloudy, self.more_cloudy)

    def read_clear(self) -> NDArray[np.generic]:
        """The clear image [C, H, W] with all its bands, in the files' dtype."""
        return _stack(self.clear, self.more_clear)

    def read(self) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        """(cloudy, clear), each [C, H, W] in the files' dtype."""
        return self.read_cloudy(), self.read_clear()

    @property
    def frames(self) -> int:
        """How many cloudy images there are of the place."""
        return 1 + len(self.dates)

    def read_frames(self, most: int | None = None) -> NDArray[np.generic]:
        """The cloudy images [N, C, H, W], `cloudy` first: all of them, or the first `most`."""
        others = self.dates if most is None else self.dates[: most - 1]
        return np.stack([self.read_cloudy(), *(read_image(path) for path in others)])

    def read_sar(self) -> NDArray[np.generic] | None:
        """Backscatter [2, H, W] in dB (VV, VH), or None where there is no Sentinel-1 image."""
        if not self.sar:
            return None
        radar = np.concatenate([read_image(path) for path in self.sar])
        if len(radar) != 2:
            raise UncloudedError(f"{self.sar[0]} has {len(radar)} bands, where VV and VH were looked for. Replace it.")
        return radar

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.cloudy, *self.more_cloudy, self.clear, *self.more_clear, *self.dates, *self.sar)


def _stack(first: Path, more: Sequence[Path]) -> NDArray[np.generic]:
    image = read_image(first)
    return np.concatenate([image, *(read_image(path)[:1] for path in more)]) if more else image


def read_pairs(
    path: str | Path,
    split: str | Iterable[str] | None = None,
    dataset: str | None = None,
    drop_leaks: bool = False,
) -> list[Pair]:
    """The pairs under `path` in natural order of their stems, checked by the files' headers.

    `split` chooses a part: a name that the data gives itself (a folder of a known layout, a value of the manifest's
    `split` column), a written list (`rice2-val`, see `datasets/splits.py`), a text file with one stem a line, or the
    stems themselves. None: all pairs. `dataset` names the layout of `path` (`datasets/catalog.py`); `drop_leaks`
    leaves out what the catalog knows to be shared between training and test parts.

    Raises UsageError for an unknown layout or split and UncloudedError for pairs that do not fit, naming the files.
    """
    pairs = select(find_pairs(Path(path), dataset, drop_leaks), split, where=Path(path))
    fail_on(header_problems(pairs), path)
    return pairs


def find_pairs(path: Path, dataset: str | None = None, drop_leaks: bool = False) -> list[Pair]:
    """The pairs of a folder or manifest, matched by name, their files not yet opened."""
    if dataset is not None:
        from unclouded.datasets import catalog

        return catalog.find_pairs(dataset, path, drop_leaks)
    if drop_leaks:
        raise UsageError("Leaks are known per data set. Name the data set whose layout this is.")
    return _find(path)


def select(pairs: list[Pair], split: str | Iterable[str] | None, where: Path) -> list[Pair]:
    """The pairs of one part. Every stem of a list must be there; the absent ones are named."""
    if split is None:
        return pairs
    if isinstance(split, str):
        own = {pair.part for pair in pairs if pair.part}
        if split in own:
            return [pair for pair in pairs if pair.part == split]
        stems = splits.stems(split, also=own)
    else:
        stems = tuple(split)
    by_stem = {pair.stem: pair for pair in pairs}
    absent = [stem for stem in stems if stem not in by_stem]
    if absent:
        raise UncloudedError(
            f"The split names {len(absent)} of {len(stems)} images that are not in {where}: {_some(absent)}. "
            "Complete the data folder, or give a list of the stems that it has."
        )
    return [by_stem[stem] for stem in sorted(stems, key=natural)]


def _find(path: Path) -> list[Pair]:
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_manifest(path)
    if not path.is_dir():
        raise UncloudedError(f"There is no folder or CSV manifest {path}. Check the path given as data.")
    if (path / MANIFEST).is_file():
        return read_manifest(path / MANIFEST)
    if (path / CLOUDY_FOLDER).is_dir() and (path / CLEAR_FOLDER).is_dir():
        return match_folders(path / CLOUDY_FOLDER, path / CLEAR_FOLDER)
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
    raise UsageError(
        f"{path} has no {CLOUDY_FOLDER}/ and {CLEAR_FOLDER}/ folders and no {MANIFEST}; it holds {found}. "
        "Arrange it so, write a CSV manifest, or name the data set whose layout it has (`unclouded data list`)."
    )


def match_folders(cloudy: Path, clear: Path, key: Callable[[str], str] = str, part: str | None = None) -> list[Pair]:
    """Pair the images of two folders whose stems are equal after `key`; a missing partner is an error."""
    left, right = list_images(cloudy, key), list_images(clear, key)
    lonely = [left[k].name for k in left.keys() - right.keys()], [right[k].name for k in right.keys() - left.keys()]
    for names, here, there in ((lonely[0], cloudy, clear), (lonely[1], clear, cloudy)):
        if names:
            raise UncloudedError(
                f"{len(names)} images of {here} have no partner of the same name in {there}: "
                f"{_some(sorted(names, key=natural))}. Add the partners or take these images away."
            )
    if not left:
        raise UncloudedError(f"{cloudy} holds no images. Put PNG, JPEG, WebP or TIFF files there.")
    return [Pair(stem, left[stem], right[stem], part=part) for stem in sorted(left, key=natural)]


def list_images(folder: Path, key: Callable[[str], str] = str) -> dict[str, Path]:
    """Stem -> file for the images of a folder; two files with one stem are an error."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image(path):
            continue
        stem = key(path.stem)
        if stem in found:
            raise UncloudedError(f"{path.name} and {found[stem].name} in {folder} share one stem. Keep one of them.")
        found[stem] = path
    return found


def read_manifest(path: Path) -> list[Pair]:
    """The pairs of a CSV manifest with the columns `cloudy,clear[,split][,stem]`; paths are relative to the CSV."""
    columns, rows = read_table(path)
    if not {"cloudy", "clear"} <= set(columns):
        raise UsageError(
            f"The manifest {path} has the columns {sorted(columns)}. It needs `cloudy` and `clear` "
            "(and may have `split` and `stem`)."
        )
    pairs = [_manifest_pair(row, path, number) for number, row in enumerate(rows, start=2)]
    if not pairs:
        raise UncloudedError(f"The manifest {path} lists no pairs. Add a line for each pair.")
    seen: dict[str, int] = {}
    for number, pair in enumerate(pairs, start=2):
        if pair.stem in seen:
            raise UncloudedError(
                f"Lines {seen[pair.stem]} and {number} of {path} have the same stem {pair.stem!r}. "
                "Give them different values in a `stem` column."
            )
        seen[pair.stem] = number
    return sorted(pairs, key=lambda pair: natural(pair.stem))


def _manifest_pair(row: dict[str, str], path: Path, number: int) -> Pair:
    if not row["cloudy"] or not row["clear"]:
        raise UncloudedError(f"Line {number} of {path} names no cloudy or no clear image. Fill in both, or drop it.")
    cloudy, clear = path.parent / row["cloudy"], path.parent / row["clear"]
    nir = [path.parent / row[column] for column in ("cloudy_nir", "clear_nir") if row.get(column)]
    if len(nir) == 1:
        raise UncloudedError(f"Line {number} of {path} names near infrared {nir[0]} alone. Fill in both, or neither.")
    dates = tuple(path.parent / name.strip() for name in (row.get("dates") or "").split(";") if name.strip())
    sar = (path.parent / row["sar"],) if row.get("sar") else ()
    for image in (cloudy, clear, *nir, *dates, *sar):
        if not image.is_file():
            raise UncloudedError(f"Line {number} of {path} names {image}, which is absent. Correct it or drop it.")
    more: list[tuple[Path, ...]] = [(file,) for file in nir] or [(), ()]
    stem = row.get("stem") or cloudy.stem
    return Pair(stem, cloudy, clear, more[0], more[1], dates, sar, part=row.get("split") or None)


def header_problems(pairs: Sequence[Pair]) -> list[str]:
    """What does not fit, by the headers alone: one sentence a file. Sizes may differ between pairs, bands may not."""
    problems: list[str] = []
    first: tuple[ImageFacts, Path] | None = None
    for pair in pairs:
        try:
            cloudy, clear = _facts(pair.cloudy, pair.more_cloudy), _facts(pair.clear, pair.more_clear)
            dates, radar = ([(path, image_facts(path)) for path in files] for files in (pair.dates, pair.sar))
        except UncloudedError as error:
            problems.append(str(error))
            continue
        if cloudy != clear:
            problems.append(f"{pair.clear} is {clear}, but its cloudy partner {pair.cloudy} is {cloudy}.")
        first = first or (cloudy, pair.cloudy)
        if (cloudy.bands, cloudy.dtype) != (first[0].bands, first[0].dtype):
            problems.append(f"{pair.cloudy} is {cloudy}, but {first[1]} is {first[0]}.")
        size = cloudy.height, cloudy.width
        unfit = [(path, facts) for path, facts in dates if facts != cloudy]
        unfit += [(path, facts) for path, facts in radar if (facts.height, facts.width) != size]
        problems += [f"{path} is {facts}, but {pair.cloudy}, which it goes with, is {cloudy}." for path, facts in unfit]
        if radar and sum(facts.bands for _, facts in radar) != 2:
            problems.append(f"{radar[0][0]} is {radar[0][1]}, where Sentinel-1's VV and VH were looked for.")
    return problems


def _facts(first: Path, more: Sequence[Path]) -> ImageFacts:
    facts = image_facts(first)
    for path in more:
        other = image_facts(path)
        if (other.height, other.width, other.dtype) != (facts.height, facts.width, facts.dtype):
            raise UncloudedError(f"{path} is {other}, but {first}, which holds its other bands, is {facts}.")
    return facts._replace(bands=facts.bands + len(more))


def fail_on(problems: Sequence[str], where: str | Path) -> None:
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise UncloudedError(
            f"{' '.join(problems[:5])}{more} Mend {where}, or leave those files out; `unclouded data check` lists all."
        )


def check_pairs(
    path: str | Path, split: str | Iterable[str] | None = None, dataset: str | None = None, pixels: bool = True
) -> tuple[list[Pair], list[str]]:
    """The pairs, and what is wrong with them, a sentence each; every pixel is read unless `pixels` is False.

    No problems means that training will meet no bad file.
    """
    try:
        pairs = select(find_pairs(Path(path), dataset), split, where=Path(path))
    except UncloudedError as error:
        return [], [str(error)]
    return pairs, pixel_problems(pairs, pixels)


def pixel_problems(pairs: Sequence[Pair], pixels: bool = True) -> list[str]:
    """`header_problems`, and the files whose pixels cannot be read."""
    problems = header_problems(pairs)
    for file in dict.fromkeys(file for pair in pairs for file in pair.files) if pixels else ():
        try:
            read_image(file)
        except UncloudedError as error:
            if str(error) not in problems:
                problems.append(str(error))
    return problems


def copies(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """(stem, stem of an earlier pair) of the pairs whose cloudy and clear files are those of another, to the byte."""
    first: dict[str, str] = {}
    found = []
    for pair in pairs:
        digest = hashlib.sha256()
        for file in (pair.cloudy, pair.clear):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        other = first.setdefault(digest.hexdigest(), pair.stem)
        if other != pair.stem:
            found.append((pair.stem, other))
    return found


def read_targets(path: str | Path) -> list[tuple[str, Path]] | None:
    """(stem, file) of the cloudy images of a folder that has no clear ones, or None if `path` is no such folder."""
    folder = Path(path)
    if not folder.is_dir() or (folder / MANIFEST).is_file() or (folder / CLEAR_FOLDER).is_dir():
        return None
    images = list_images(folder / CLOUDY_FOLDER if (folder / CLOUDY_FOLDER).is_dir() else folder)
    return [(stem, images[stem]) for stem in sorted(images, key=natural)] or None


def natural(stem: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts 9 before 10."""
    return tuple((0, int(run)) if run.isdigit() else (1, run) for run in re.split(r"(\d+)", stem) if run)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

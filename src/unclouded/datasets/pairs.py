"""Pairs of a cloudy and a clear image, listed explicitly and checked before the first one is used.

A data folder is one of

- a folder with `cloud/` and `label/`, or `cloudy/` and `clear/`, whose files have equal stems (PNG, JPEG, WebP, TIFF);
- a CSV manifest (a file, or `pairs.csv` in a folder) with the columns `cloudy,clear[,split][,stem]`, and perhaps
  `cloudy_nir,clear_nir` for near infrared in files of its own, `dates` for further cloudy images of the place (with `;`
  between them) and `sar` for Sentinel-1's VV and VH in dB; paths are relative to the CSV;
- the layout of a known data set (`datasets/catalog.py`), asked for by its name.

Files are matched by name, never by their position in a listing. A missing partner, or partners of different size, band
count or dtype, is an error that names the file.
"""

from collections.abc import Iterable
from pathlib import Path

from unclouded.datasets import catalog, splits
from unclouded.datasets.manifest import MANIFEST, read_manifest
from unclouded.datasets.matching import list_images, match_folders, natural, some
from unclouded.datasets.pair import Pair
from unclouded.datasets.problems import fail_on, header_problems, pixel_problems
from unclouded.errors import UncloudedError, UsageError

__all__ = ["Pair", "check_pairs", "find_pairs", "read_pairs", "read_targets", "select"]

CLOUDY_FOLDER, CLEAR_FOLDER = "cloud", "label"  # RICE's names, under which pairs are also written
FOLDERS = ((CLOUDY_FOLDER, CLEAR_FOLDER), ("cloudy", "clear"))


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
            f"The split names {len(absent)} of {len(stems)} images that are not in {where}: {some(absent)}. "
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
    for cloudy, clear in FOLDERS:
        if (path / cloudy).is_dir() and (path / clear).is_dir():
            return match_folders(path / cloudy, path / clear)
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
    raise UsageError(
        f"{path} has neither {' nor '.join(f'{cloudy}/ and {clear}/' for cloudy, clear in FOLDERS)} nor {MANIFEST}; "
        f"it holds {found}. "
        "Arrange it so, write a CSV manifest, or name the data set whose layout it has (`unclouded data list`)."
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


def read_targets(path: str | Path) -> list[tuple[str, Path]] | None:
    """(stem, file) of the cloudy images of a folder that has no clear ones, or None if `path` is no such folder."""
    folder = Path(path)
    if not folder.is_dir() or (folder / MANIFEST).is_file() or any((folder / clear).is_dir() for _, clear in FOLDERS):
        return None
    images = list_images(next((folder / cloudy for cloudy, _ in FOLDERS if (folder / cloudy).is_dir()), folder))
    return [(stem, images[stem]) for stem in sorted(images, key=natural)] or None

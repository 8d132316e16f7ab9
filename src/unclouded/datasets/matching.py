"""Files of two folders that belong together: by their names, never by their position in a listing."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from unclouded.datasets.images import is_image
from unclouded.datasets.pair import Pair
from unclouded.errors import UncloudedError


def match_folders(cloudy: Path, clear: Path, key: Callable[[str], str] = str, part: str | None = None) -> list[Pair]:
    """Pair the images of two folders whose stems are equal after `key`; a missing partner is an error."""
    left, right = list_images(cloudy, key), list_images(clear, key)
    lonely = [left[k].name for k in left.keys() - right.keys()], [right[k].name for k in right.keys() - left.keys()]
    for names, here, there in ((lonely[0], cloudy, clear), (lonely[1], clear, cloudy)):
        if names:
            raise UncloudedError(
                f"{len(names)} images of {here} have no partner of the same name in {there}: "
                f"{some(sorted(names, key=natural))}. Add the partners or take these images away."
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


def natural(stem: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts 9 before 10."""
    return tuple((0, int(run)) if run.isdigit() else (1, run) for run in re.split(r"(\d+)", stem) if run)


def some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

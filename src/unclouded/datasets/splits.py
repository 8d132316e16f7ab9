"""Fixed splits as written lists of stems, each with a hash, so that "our RICE2 validation number" means one thing.

| list | what |
|---|---|
| `rice2-val`, `rice2-train` | 60 and 529 of the 589 pairs of RICE2's training part |
| `rice2-train-clean` | `rice2-train` without the pairs of `rice2-cloudy-labels` |
| `rice2-cloudy-labels` | pairs whose "clear" image shows clouds or cloud shadows, with the reason |
| `rice1-val`, `rice1-train` | 16 and 64 of 80 pairs of RICE1 |
| `sen12mscr-val`, `sen12mscr-clear` | 5 pairs of SEN12MS-CR, of one place; 6 clear images of three others, by file |

How they were made: RICE2 is cut without overlap from ten Landsat 8 scenes, tile after tile (neighbouring stems are
neighbouring places). Correlating all labels, at rest and over all shifts with at least a fifth of overlap, finds no
tile twice among these pairs, so nothing had to be kept together. `draw` takes from each scene its share, in the order
of a hash of the stem: the validation part has the mix of scenes, of open sea and of cloudy "clear" images that any
random part of RICE has, which is what published numbers are measured on; nothing was picked by looking at results.
"""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from unclouded.errors import UncloudedError, UsageError
from unclouded.text_files import read_text

# First stem of each Landsat 8 scene of RICE2, and of each run of like images of RICE1 (seen by looking at the labels).
RICE2_SCENES = (0, 56, 137, 227, 290, 380, 450, 521, 577, 665)
RICE1_SCENES = (0, 60, 100, 160, 210, 270, 330, 380, 430, 486)


def split(dataset: str, part: str | None = None) -> tuple[str, ...]:
    """The stems of a written list, sorted: `split("rice2", "val")`, or by its name `split("rice2-val")`."""
    return tuple(stem for stem, _ in _read(_name(dataset, part)))


def split_hash(dataset: str, part: str | None = None) -> str:
    """SHA-256 (hexadecimal) over the list's sorted stems, one a line: equal hashes, equal images."""
    return hash_stems(split(dataset, part))


def hash_stems(stems: Iterable[str]) -> str:
    """SHA-256 (hexadecimal) over the sorted stems, one a line."""
    return hashlib.sha256("".join(f"{stem}\n" for stem in sorted(stems)).encode()).hexdigest()


def reasons(dataset: str, part: str | None = None) -> dict[str, str]:
    """Stem -> what the list says of it (empty where it says nothing)."""
    return dict(_read(_name(dataset, part)))


def names() -> tuple[str, ...]:
    """The names of all written lists, such as `rice2-val`."""
    folder = files("unclouded.datasets") / "splits"
    return tuple(sorted(entry.name.removesuffix(".txt").replace("_", "-") for entry in folder.iterdir()
                        if entry.name.endswith(".txt")))  # fmt: skip


def stems(name_or_file: str, also: Iterable[str] = ()) -> tuple[str, ...]:
    """The stems of a written list or of a text file (one stem a line, `#` starts a comment).

    `also` are names that the caller knows besides, for the message. Raises UsageError for an unknown name.
    """
    if name_or_file in names():
        return split(name_or_file)
    path = Path(name_or_file)
    if path.is_file():
        found = tuple(stem for stem, _ in _parse(read_text(path), str(path)))
        if not found:
            raise UncloudedError(f"The split list {path} is empty. Write one stem a line.")
        return found
    known = ", ".join([*sorted(also), *names()])
    raise UsageError(f"There is no split {name_or_file!r}. Give one of {known}, or a text file with one stem a line.")


def draw(name: str, stems: Sequence[str], first_of_group: Sequence[int], count: int) -> tuple[str, ...]:
    """`count` of the stems: from each group its share (largest remainders first), ordered by a hash of the stem."""
    groups = [
        [stem for stem in stems if low <= int(stem) < high]
        for low, high in zip(first_of_group, [*first_of_group[1:], 10**9], strict=True)
    ]
    shares = [count * len(group) / len(stems) for group in groups]
    take = [int(share) for share in shares]
    by_remainder = sorted(range(len(groups)), key=lambda i: take[i] - shares[i])
    for i in by_remainder[: count - sum(take)]:
        take[i] += 1

    def rank(stem: str) -> str:
        return hashlib.sha256(f"{name}/{stem}".encode()).hexdigest()

    chosen = [stem for group, n in zip(groups, take, strict=True) for stem in sorted(group, key=rank)[:n]]
    return tuple(sorted(chosen, key=int))


def _name(dataset: str, part: str | None) -> str:
    name = dataset if part is None else f"{dataset}-{part}"
    name = name.lower().replace("_", "-")
    if name not in names():
        raise UsageError(f"There is no written split {name!r}. The lists are {', '.join(names())}.")
    return name


def _read(name: str) -> list[tuple[str, str]]:
    file = files("unclouded.datasets") / "splits" / f"{name.replace('-', '_')}.txt"
    return _parse(file.read_text(encoding="utf-8"), name)


def _parse(text: str, where: str) -> list[tuple[str, str]]:
    lines = [line.split("#", 1)[0].strip().partition("\t") for line in text.splitlines()]
    found = [(stem.strip(), reason.strip()) for stem, _, reason in lines if stem.strip()]
    if len({stem for stem, _ in found}) != len(found):
        raise UncloudedError(f"The split list {where} names a stem twice. Keep each stem once.")
    return found

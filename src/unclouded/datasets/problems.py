"""What does not fit in a list of pairs, found before training or a table meets it: by headers, by pixels, by bytes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from unclouded.datasets.images import ImageFacts, image_facts, read_image
from unclouded.datasets.pair import Pair
from unclouded.errors import UncloudedError


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


def fail_on(problems: Sequence[str], where: str | Path) -> None:
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise UncloudedError(
            f"{' '.join(problems[:5])}{more} Mend {where}, or leave those files out; `unclouded data check` lists all."
        )


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

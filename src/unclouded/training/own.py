"""A recipe for the user's own data: as many bands, cloudy dates and Sentinel-1 images as the files have, their units,
and images held out to validate.

`unclouded train own --data DIR` reads bands and units from the first file, dates and radar from the list of the pairs;
`--bands`, `--units` and `--simulate` do it for any recipe.
"""

import logging
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pydantic import ValidationError

from unclouded.datasets import catalog
from unclouded.datasets.images import RASTERS, image_facts
from unclouded.datasets.pairs import Pair, find_pairs, select
from unclouded.errors import UsageError, first_problem
from unclouded.models.de import DEConfig
from unclouded.training.sources import clear_files
from unclouded.training.values import Recipe, Source

logger = logging.getLogger(__name__)

Units = Literal["display", "reflectance"]
HELD_OUT = 0.1  # share of the pairs, or of the rows of each clear image, that validates
LEFT_OUT = 0.1  # share of the pairs that may be left out for having fewer cloudy dates, or no radar image
# names where the files give none, by the number of bands
COMMON = {
    1: ("gray",),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "nir"),
    13: ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12"),  # Sentinel-2, level 1C
}


class Facts(NamedTuple):
    """What the first file says: names of its bands, whether they are its own, and the units of its numbers."""

    bands: tuple[str, ...]
    named: bool
    units: Units


def fit(
    recipe: Recipe,
    data: Path,
    *,
    bands: Sequence[str] | None = None,
    units: Units | None = None,
    simulate: bool = False,
    by_hand: Collection[str] = (),
    say: Callable[[str], None] = logger.info,
) -> Recipe:
    """`recipe` for the images of `data`: with `simulate` for a folder of clear ones, put under simulated clouds.

    The recipe `own` takes bands and units from the files where they are not given, and as many cloudy dates and
    Sentinel-1 images as the pairs have, unless they are among the values `by_hand` ("model.frames", "model.sar"); `say`
    hears of it in a sentence. Other recipes keep theirs. Raises UsageError for bands that do not fit the files.
    """
    if simulate:
        recipe = _simulated(recipe)
    if recipe.name != "own" and not simulate and not bands and units is None:
        return recipe
    if simulate or _reads_files(recipe):
        pairs = [] if simulate else _listed(recipe.sources[0], data)
        facts = _facts(recipe.sources[0], pairs) if pairs else _header(clear_files(data)[0])
        if bands and len(bands) != len(facts.bands):
            raise UsageError(f"--bands names {len(bands)} bands, but the files have {len(facts.bands)}. Name them all.")
        if not bands and not facts.named:
            recipe = _changed(
                recipe, limits=(*recipe.limits, "the files do not name their bands; the names are guesses")
            )
        bands, units = bands or facts.bands, units or facts.units
        if pairs:
            recipe = _with_conditions(recipe, pairs, by_hand, say)
            recipe = _held_out(recipe, [pair for pair in pairs if _has(pair, recipe.frames, recipe.sar)] or pairs)
    return with_bands(recipe, tuple(bands or recipe.bands), units or recipe.units)


def _reads_files(recipe: Recipe) -> bool:
    """Whether its bands, dates and radar are to be those of the pairs in --data itself."""
    return recipe.name == "own" and all(source.kind == "pairs" and source.path == "." for source in recipe.sources)


def _listed(source: Source, data: Path) -> list[Pair]:
    """The pairs that the recipe may draw from, their files not yet opened."""
    return select(find_pairs(data, source.dataset, source.drop_leaks), source.split, where=data)


def with_bands(recipe: Recipe, bands: tuple[str, ...], units: Units) -> Recipe:
    """The recipe with its model widened or narrowed to these bands."""
    model: Any = recipe.model
    if isinstance(model, DEConfig):
        model = model.taking(len(bands), model.frames, model.sar)
    else:
        model = model.model_copy(update={"bands": len(bands)})
    return _changed(recipe, model=model, bands=bands, units=units)


def _changed(recipe: Recipe, mend: str = "Change --bands", **changes: Any) -> Recipe:
    """A checked copy."""
    values = {name: getattr(recipe, name) for name in type(recipe).model_fields}
    try:
        return Recipe.model_validate(values | changes)
    except ValidationError as error:
        raise UsageError(f"The recipe does not fit the data: {first_problem(error).what}. {mend}.") from error


def _has(pair: Pair, frames: int, sar: int) -> bool:
    """Whether the pair has what a model of so many dates and bands of Sentinel-1 takes."""
    return pair.frames >= frames and bool(pair.sar or not sar)


def _with_conditions(
    recipe: Recipe, pairs: Sequence[Pair], by_hand: Collection[str], say: Callable[[str], None]
) -> Recipe:
    """The recipe for as many cloudy dates as nearly all pairs have (LEFT_OUT), and for Sentinel-1 where nearly all have
    that."""
    model = cast(DEConfig, recipe.model)
    needed = len(pairs) - int(LEFT_OUT * len(pairs))
    dates = sorted((pair.frames for pair in pairs), reverse=True)
    with_radar = sum(bool(pair.sar) for pair in pairs)
    frames, sar = model.frames, model.sar
    if "model.frames" not in by_hand:
        frames = dates[needed - 1]
        if dates[0] > frames:
            say(_unused_dates(dates, frames))
    if "model.sar" not in by_hand:
        sar = 2 if with_radar >= needed else 0
        if with_radar and not sar:
            say(_unused_radar(with_radar, len(pairs)))
    found = {"model.frames=1": f"{frames} cloudy dates"} if frames > 1 else {}
    found |= {"model.sar=0": "Sentinel-1"} if sar else {}
    if automatic := [key for key in found if key.partition("=")[0] not in by_hand]:
        have = sum(_has(pair, frames, sar) for pair in pairs)
        say(_used(" and ".join(found[key] for key in automatic), automatic, have, len(pairs)))
    changes: dict[str, Any] = {"model": model.taking(model.bands, frames, sar)}
    if found and "summary" not in by_hand:
        changes["summary"] = f"Light DE of {' and '.join(found.values())}, trained on own data"
    return _changed(recipe, mend="Set model.frames to 1 and model.sar to 0", **changes)


def _used(what: str, automatic: Sequence[str], have: int, of: int) -> str:
    which = "every pair has" if have == of else f"{have} of {of} pairs have; the others are left out"
    without = " ".join(f"--set {setting}" for setting in automatic)
    return f"The model takes {what}, which {which} (a model without: {without})."


def _unused_dates(dates: Sequence[int], frames: int) -> str:
    more = sum(n > frames for n in dates)
    takes = "one cloudy date" if frames == 1 else f"the first {frames} cloudy dates"
    return (
        f"The model takes {takes} of each pair, though {more} of {len(dates)} pairs have more, up to {dates[0]}; "
        f"--set model.frames={dates[0]} takes as many and leaves out the pairs with fewer."
    )


def _unused_radar(have: int, of: int) -> str:
    return (
        f"The model takes no Sentinel-1 image, since {of - have} of {of} pairs have none; "
        "--set model.sar=2 takes it and leaves those pairs out."
    )


def _simulated(recipe: Recipe) -> Recipe:
    """Clear images for both lists: training sees the upper rows of each, validation the lower ones."""
    upper, lower = (0.0, 1 - 2 * HELD_OUT), (1 - 2 * HELD_OUT, 1.0)
    return _changed(
        recipe,
        name=recipe.name if recipe.name == "own" else f"{recipe.name}-simulated",
        sources=(Source(kind="clear", rows=upper),),
        validation=(Source(kind="clear", rows=lower),),
    )


def _held_out(recipe: Recipe, pairs: Sequence[Pair]) -> Recipe:
    """Own parts train and val (or test) where the data have them; else a tenth of the pairs validates."""
    source, held_out = recipe.sources[0], recipe.validation[0]
    if held_out.path == "." and held_out.dataset is None:
        held_out = held_out.model_copy(update={"dataset": source.dataset, "drop_leaks": source.drop_leaks})
    by_hand = (*recipe.sources, *recipe.validation)
    if any(source.split or source.share != (0.0, 1.0) or source.path != "." for source in by_hand):
        return _changed(recipe, validation=(held_out, *recipe.validation[1:]))
    parts = {pair.part for pair in pairs}
    train: dict[str, Any]
    validation: dict[str, Any]
    if "train" in parts and parts & {"val", "test"}:
        train, validation = {"split": "train"}, {"split": "val" if "val" in parts else "test"}
    elif len(pairs) > 1:
        cut = min(1 - HELD_OUT, (len(pairs) - 0.5) / len(pairs))
        train, validation = {"share": (0.0, cut)}, {"share": (cut, 1.0)}
    else:
        train = validation = {}
    return _changed(
        recipe, sources=(source.model_copy(update=train),), validation=(held_out.model_copy(update=validation),)
    )


def _facts(source: Source, pairs: Sequence[Pair]) -> Facts:
    """Bands and units of the first pair; a known data set names its bands."""
    facts = _header(pairs[0].clear, len(pairs[0].more_clear))
    known = catalog.get(source.dataset).bands if source.dataset else ()
    return facts._replace(bands=known, named=True) if len(known) == len(facts.bands) else facts


def _header(file: Path, extra: int = 0) -> Facts:
    """Bands and units of a file, and `extra` bands in further ones: 8 bits are display values, else reflectance
    (× 10000 for integers)."""
    header = image_facts(file)
    names = _descriptions(file) if file.suffix.lower() in RASTERS and not extra else ()
    count = header.bands + extra
    guess = COMMON.get(count) or tuple(f"band{n + 1}" for n in range(count))
    return Facts(names or guess, bool(names), "display" if header.dtype == "uint8" else "reflectance")


def _descriptions(file: Path) -> tuple[str, ...]:
    """The names that a GeoTIFF gives its bands; () if one is missing or twice there."""
    import rasterio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no georeferencing needed
        with rasterio.open(file) as raster:
            names = tuple(raster.descriptions)
    return names if all(names) and len(set(names)) == len(names) else ()

"""A recipe for the user's own data: as many bands as the files have, their units, and images held out to validate.

`unclouded train own --data DIR` reads it all from the first file; `--bands`, `--units` and `--simulate` do it for any
recipe.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from unclouded.datasets.images import RASTERS, image_facts
from unclouded.datasets.pairs import Pair, find_pairs
from unclouded.errors import UsageError
from unclouded.models.de import DEConfig
from unclouded.training.data import clear_files
from unclouded.training.values import Recipe, Source

Units = Literal["display", "reflectance"]
HELD_OUT = 0.1  # share of the pairs, or of the rows of each clear image, that validates
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
) -> Recipe:
    """`recipe` for the images of `data`: with `simulate` for a folder of clear ones, put under simulated clouds.

    The recipe `own` takes bands and units from the files where they are not given; other recipes keep theirs. Raises
    UsageError for bands that do not fit the files.
    """
    if simulate:
        recipe = _simulated(recipe)
    if recipe.name != "own" and not simulate and not bands and units is None:
        return recipe
    if _reads_files(recipe):
        facts = read_facts(data, simulate)
        if bands and len(bands) != len(facts.bands):
            raise UsageError(f"--bands names {len(bands)} bands, but the files have {len(facts.bands)}. Name them all.")
        if not bands and not facts.named:
            recipe = _changed(
                recipe, limits=(*recipe.limits, "the files do not name their bands; the names are guesses")
            )
        bands, units = bands or facts.bands, units or facts.units
        recipe = recipe if simulate else _held_out(recipe, data)
    return with_bands(recipe, tuple(bands or recipe.bands), units or recipe.units)


def _reads_files(recipe: Recipe) -> bool:
    """Whether its bands are to be those of the files in --data itself."""
    return all(source.path == "." and source.dataset is None for source in recipe.sources)


def with_bands(recipe: Recipe, bands: tuple[str, ...], units: Units) -> Recipe:
    """The recipe with its model widened or narrowed to these bands."""
    n = len(bands)
    model: Any = recipe.model
    changes: dict[str, Any] = {"bands": n}
    if isinstance(model, DEConfig):
        changes["cnp"] = replace(model.cnp, in_channels=2 * n + model.sar, out_channels=n)
        changes["wa"] = model.wa and replace(model.wa, in_channels=3 * n + model.sar, out_channels=n)
    return _changed(recipe, model=model.model_copy(update=changes), bands=bands, units=units)


def _changed(recipe: Recipe, **changes: Any) -> Recipe:
    """A checked copy."""
    values = {name: getattr(recipe, name) for name in type(recipe).model_fields}
    try:
        return Recipe.model_validate(values | changes)
    except ValidationError as error:
        raise UsageError(f"The recipe does not fit the data: {error.errors()[0]['msg']}. Change --bands.") from error


def _simulated(recipe: Recipe) -> Recipe:
    """Clear images for both lists: training sees the upper rows of each, validation the lower ones."""
    upper, lower = (0.0, 1 - 2 * HELD_OUT), (1 - 2 * HELD_OUT, 1.0)
    return _changed(
        recipe,
        name=recipe.name if recipe.name == "own" else f"{recipe.name}-simulated",
        sources=(Source(kind="clear", rows=upper),),
        validation=(Source(kind="clear", rows=lower),),
    )


def _held_out(recipe: Recipe, data: Path) -> Recipe:
    """Own parts train and val (or test) where a manifest has them; else a tenth of the pairs validates."""
    if any(source.split or source.share != (0.0, 1.0) for source in (*recipe.sources, *recipe.validation)):
        return recipe
    pairs = find_pairs(data)
    parts = {pair.part for pair in pairs}
    if "train" in parts and parts & {"val", "test"}:
        train, validation = Source(split="train"), Source(split="val" if "val" in parts else "test")
    elif len(pairs) > 1:
        cut = min(1 - HELD_OUT, (len(pairs) - 0.5) / len(pairs))
        train, validation = Source(share=(0.0, cut)), Source(share=(cut, 1.0))
    else:
        train = validation = Source()
    return _changed(recipe, sources=(train,), validation=(validation,))


def read_facts(data: Path, simulate: bool = False) -> Facts:
    """Bands and units of the first file: 8 bits are display values, else reflectance (× 10000 for integers)."""
    pair: Pair | None = None if simulate else find_pairs(data)[0]
    file = clear_files(data)[0] if pair is None else pair.clear
    extra = 0 if pair is None else len(pair.more_clear)
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

"""The papers' methods on the papers' data sets: Tables V to IX of Sui et al. 2024, and DiffCR (Zou et al. 2024).

`--data` is the data set's folder, in its published layout. Names are those that `unclouded paper` looks for.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from unclouded.datasets import catalog
from unclouded.models.de import DEConfig, paper_config
from unclouded.models.diffcr import DiffCRConfig
from unclouded.models.end_to_end import EndToEndConfig
from unclouded.sampling import Sampling
from unclouded.training.values import Recipe, Source, Stage, StageName

PRIORS = ("spagan", "amgan", "cvae", "pix2pix", "memorynet", "msda")
# data set -> the parts that train and validate (datasets/catalog.py has the rest: layout, bands, dtype, dates)
DATA = {
    "rice1": ("rice1-train", "rice1-val"),
    "rice2": ("rice2-train", "rice2-val"),
    "cuhk-cr1": ("train", "test"),
    "cuhk-cr2": ("train", "test"),
    "t-cloud": ("train", "test"),
    "whu-cloud": ("train", "val"),
    "whus2-cr": ("train", "val"),
    "sen12ms-cr": ("train", "val"),
    "sen12ms-cr-ts": ("train", "val"),
    "sen2-mtc-old": ("train", "val"),
    "sen2-mtc-new": ("train", "val"),
}
SEVERAL_DATES = ("sen12ms-cr-ts", "sen2-mtc-old", "sen2-mtc-new")


def _facts(dataset: str) -> dict[str, Any]:
    """The fields of a recipe that the data set decides: bands, units (16 bits: reflectance), where pairs come from."""
    entry = catalog.get(dataset)
    train, validation = (Source(dataset=dataset, split=part) for part in DATA[dataset])
    return {
        "bands": entry.bands,
        "units": "display" if entry.dtype == "uint8" else "reflectance",
        "sources": (train,),
        "validation": (validation,),
    }


# Sui et al., section V: lr 1e-5, EMA 0.9999; stage 1 at 64×64 with batch 64, stages 2 and 3 at 256×256 with batch 16.
# The paper states neither iteration counts nor how its priors were trained: those numbers are ours.
def _stages() -> dict[StageName, Stage]:
    return {
        "prior": Stage(steps=100_000, batch_size=16, size=256, lr=1e-4, decay=0.5),
        "coarse": Stage(steps=500_000, batch_size=64, size=64, shrink=4),
        "weights": Stage(steps=50_000, batch_size=16, size=256),
        "joint": Stage(steps=50_000, batch_size=16, size=256),
    }


def de(prior: str, dataset: str, variant: str = "", frames: int = 1, sar: Literal[0, 2] = 0, **changes: Any) -> Recipe:
    """Tables IV and V: DE over `prior` at full size. Several dates and Sentinel-1 ("-n3", "-sar") go beyond the
    paper."""
    facts = _facts(dataset)
    return Recipe(
        name=f"de-{prior}-{dataset}{variant}",
        summary=f"The paper's DE over {prior} on {catalog.get(dataset).title} (Sui et al. 2024)",
        model=paper_config(len(facts["bands"]), prior, frames, sar),
        **(facts | {"stages": _stages()} | changes),
    )


def alone(prior: str, dataset: str) -> Recipe:
    """A row of Tables V and VI: an end-to-end network by itself."""
    facts = _facts(dataset)
    return Recipe(
        name=f"{prior}-{dataset}",
        summary=f"{prior} on {catalog.get(dataset).title}, end to end (Sui et al. 2024, Tables V and VI)",
        model=EndToEndConfig(bands=len(facts["bands"]), prior=prior),
        stages={"prior": _stages()["prior"]},
        **facts,
    )


def diffusion(dataset: str, variant: str = "") -> Recipe:
    """Table IX's first row, pure conditional diffusion: DE's CNP, without prior and WA. "-fine": at full size only."""
    facts = _facts(dataset)
    cnp = paper_config(bands=len(facts["bands"])).cnp
    return Recipe(
        name=f"diffusion-{dataset}{variant}",
        summary=f"Pure conditional diffusion on {catalog.get(dataset).title} (Sui et al. 2024, Table IX)",
        model=DEConfig(bands=len(facts["bands"]), prior=None, cnp=cnp, wa=None),
        stages={"coarse": (fine_only() if variant else _stages())["coarse"]},
        **facts,
    )


def fine_only() -> dict[StageName, Stage]:
    """Table VIII's other way: the CNP is trained at full size from the beginning."""
    return _stages() | {"coarse": Stage(steps=500_000, batch_size=16, size=256)}


def not_jointly() -> dict[StageName, Stage]:
    """Table IX: WA trained, then no joint stage."""
    return {name: stage for name, stage in _stages().items() if name != "joint"}


def at_resolution(factor: int, side: int = 512) -> dict[StageName, Stage]:
    """Table VII: images of `side` pixels, averaged over factor×factor; crops are as large as they still can be."""
    coarser: dict[StageName, Stage] = {}
    for name, stage in _stages().items():
        shrink = stage.shrink * factor
        coarser[name] = stage.model_copy(update={"shrink": shrink, "size": min(stage.size, side // shrink)})
    return coarser


# DiffCR's "20 steps" are 21 points of `dpm` (models/diffcr.py). The paper's own training schedule was not at hand:
# optimizer (AdamW), crops, batch, learning rate and steps are ours.
def diffcr(dataset: str, variant: str = "", **options: Any) -> Recipe:
    """`options` are those of DiffCRConfig: frames, prediction, pooling, sar."""
    facts = _facts(dataset)
    model = DiffCRConfig(bands=len(facts["bands"]), **options)
    return Recipe(
        name=f"diffcr-{dataset}{variant}",
        summary=f"DiffCR on {catalog.get(dataset).title}, {model.frames} dates, predicts {model.prediction} "
        "(Zou et al. 2024)",
        model=model,
        stages={"diffcr": Stage(steps=300_000, batch_size=8, size=256, lr=5e-5)},
        sampling=Sampling(sampler="dpm", steps=21, spacing="linspace"),
        **facts,
    )


Make = Callable[[], Recipe]


def rows() -> dict[str, Make]:
    """Recipe name -> its function: METHOD-DATASET, DE over a method as de-METHOD-DATASET, variants with a suffix (-sar:
    with Sentinel-1, -n3: three dates)."""
    found: dict[str, Make] = {}
    for dataset in DATA:
        found |= {f"{prior}-{dataset}": partial(alone, prior, dataset) for prior in PRIORS}
        found |= {f"de-{prior}-{dataset}": partial(de, prior, dataset) for prior in ("light", *PRIORS)}
        found |= {f"diffusion-{dataset}{v}": partial(diffusion, dataset, v) for v in ("", "-fine")}
        found |= _diffcr_rows(dataset) | _condition_rows(dataset)
    for dataset in ("rice2", "cuhk-cr1", "cuhk-cr2"):
        found[f"de-msda-{dataset}-fine"] = lambda d=dataset: de("msda", d, "-fine", stages=fine_only())  # type: ignore[misc]
        found[f"de-msda-{dataset}-weights"] = lambda d=dataset: de("msda", d, "-weights", stages=not_jointly())  # type: ignore[misc]
    for dataset in ("cuhk-cr1", "cuhk-cr2"):
        for factor in (2, 4):
            found |= _resolution_row(dataset, factor)
    return found


def _condition_rows(dataset: str) -> dict[str, Make]:
    """DE with three dates and with Sentinel-1, DiffCR with Sentinel-1, where the data set has them."""
    found: dict[str, Make] = {}
    priors = ("light", *PRIORS)
    if dataset in SEVERAL_DATES:
        found |= {f"de-{prior}-{dataset}-n3": partial(de, prior, dataset, "-n3", frames=3) for prior in priors}
    if catalog.get(dataset).sar:
        found |= {f"de-{prior}-{dataset}-sar": partial(de, prior, dataset, "-sar", sar=2) for prior in priors}
        most = 3 if dataset in SEVERAL_DATES else 1
        found[f"diffcr-{dataset}-sar"] = partial(diffcr, dataset, "-sar", frames=most, sar=2)
    return found


def _resolution_row(dataset: str, factor: int) -> dict[str, Make]:
    variant = f"-{factor // 2}m"  # CUHK-CR has 0.5 m
    return {f"de-msda-{dataset}{variant}": lambda: de("msda", dataset, variant, stages=at_resolution(factor))}


def _diffcr_rows(dataset: str) -> dict[str, Make]:
    """All dates under the plain name, fewer with a suffix; ε prediction; blocks with one pooled gate or none."""
    most = 3 if dataset in SEVERAL_DATES else 1
    variants: dict[str, dict[str, Any]] = {"": {}, "-eps": {"prediction": "eps"}}
    variants |= {f"-{pooling}": {"pooling": pooling} for pooling in ("mean", "max", "none")}
    variants |= {f"-n{n}": {"frames": n} for n in range(1, most)}
    return {
        f"diffcr-{dataset}{suffix}": partial(diffcr, dataset, suffix, **({"frames": most} | options))
        for suffix, options in variants.items()
    }

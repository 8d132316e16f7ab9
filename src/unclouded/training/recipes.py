"""One function per model that can be trained: the small family that ships, the user's own, and the papers' rows.

A recipe is a value (training/values.py). `unclouded train RECIPE --set stages.coarse.steps=200` changes one field of
it, checked like any other.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from unclouded.errors import UsageError, first_problem
from unclouded.models.de import DEConfig
from unclouded.models.light import LightConfig
from unclouded.models.unet import UNetConfig
from unclouded.sampling import Sampling
from unclouded.training import papers
from unclouded.training.values import Recipe, Source, Stage, StageName

__all__ = ["RECIPES", "Recipe", "Source", "Stage", "StageName", "recipe"]


def _light_de(bands: int, cnp: UNetConfig | LightConfig, prediction: Literal["residual", "refinement"]) -> DEConfig:
    """The light prior, a CNP, and a WA on a space-to-depth grid of 4 (docs/decisions.md)."""
    return DEConfig(
        bands=bands,
        prior="light",
        prior_options={"channels": [24, 48, 96, 192], "gain": True},
        cnp=cnp,
        wa=UNetConfig(
            3 * bands,
            bands,
            channels=24,
            res_blocks=1,
            multipliers=(1, 2, 2),
            attention=(4,),
            heads=1,
            scale_shift=False,
            patch=4,
        ),
        prediction=prediction,
    )


_REAL = (
    Source(path="rice1", split="rice1-train", weight=0.2, transplanted=0.6, varied=0.5),
    Source(path="rice2", split="rice2-train-clean", weight=0.4, transplanted=0.4),
)
_THIN = Source(kind="clear", clouds="rice1", clouds_split="rice1-train", varied=0.5)
_THICK = Source(kind="clear", clouds="rice2", clouds_split="rice2-train-clean", varied=0.5)
_MIXED = (
    _THIN.model_copy(update={"path": "clear_s2_rgb", "weight": 0.05}),
    _THIN.model_copy(update={"path": "rice2/label", "split": "rice2-train-clean", "weight": 0.1}),
    _THICK.model_copy(update={"path": "rice1/label", "split": "rice1-train", "weight": 0.03}),
    _THICK.model_copy(update={"path": "clear_s2_rgb", "weight": 0.03}),
)
_SHOWN = {"cloudless": 0.2, "varied": 0.8, "contrast": 0.8}
_SIMULATED = (
    Source(kind="clear", path="clear_s2_rgb", weight=0.04, cloudless=0.2),
    Source(kind="landscapes", count=96, gsd=(0.5, 1, 2, 5, 10), weight=0.05, cloudless=0.2, contrast=0.6),
)

_NAIP = Source(kind="clear", path="scenes/naip_1m_rgbn.tif")
_SPACENET6 = Source(
    kind="clear",
    path="scenes/spacenet6_ms_1m.tif",
    pan="scenes/spacenet6_pan_0.5m.tif",
    stretch="p2-98",
    channels=(3, 2, 1),  # its bands are blue, green, red, near infrared
    weight=0.05,
    **_SHOWN,
)
_TOWNS = Source(kind="landscapes", count=48, gsd=(0.5, 1), towns=1.0, weight=0.05, **_SHOWN)
_FINE = (  # 0.5 to 1 m: bright roofs and roads are no clouds
    Source(kind="clear", path="scenes/banepa_0.5m_rgb.tif", rows=(0.0, 0.67), weight=0.07, **_SHOWN),
    _SPACENET6,
    _NAIP.model_copy(update={"channels": (1, 2, 3), "rows": (0.0, 0.75), "weight": 0.03} | _SHOWN),
    _TOWNS,
)
_S2_CHANNELS = (4, 3, 2, 8)  # red, green, blue, near infrared
_SENTINEL2 = Source(kind="clear", path="sen12mscr/s2", split="sen12mscr-clear", channels=_S2_CHANNELS)
_SENTINEL2_SERIES = _SENTINEL2.model_copy(update={"path": "sen12mscr_ts"})
_VARIED = {"cloudless": 0.2, "varied": 0.5}
_RICE2_CLOUDS = {"clouds": "rice2", "clouds_split": "rice2-train-clean", "varied": 0.5}
_SENTINEL2_RGB = tuple(
    source.model_copy(update={"channels": _S2_CHANNELS[:3], "weight": 0.02} | clouds)
    for source in (_SENTINEL2, _SENTINEL2_SERIES)
    for clouds in (_VARIED, _RICE2_CLOUDS)
)

_LIMITS = (
    "What lies under thick cloud is an estimate from its surroundings, smoother than the ground",
    "Under full cover there is nothing to estimate from: the answer is a guess at the colours of the region",
    "Snow and bright sand may be taken for cloud and darkened; give a mask",
    "Open sea may keep faint traces of cloud edges",
    "Clear ground beside thick cloud may darken by some per cent, at 0.5 m above all; give a mask",
    "The spread of four samples is right on average; it tells uncertain images apart, hardly the pixels within one",
    "Bands other than the model's pass through unchanged, clouds included",
)


_ONE_STEP = Sampling(sampler="dpm", steps=1, spacing="trailing", start=300, margin=16, scales=3, tile=512)
_STEP = {"batch_size": 8, "t_power": 2.0, "from_prior": 0.9, "warmup": 50}  # of the stages that meet x_E


def _joint(steps: int, lr: float, **loss_weights: float) -> Stage:
    return Stage(
        steps=steps,
        size=128,
        last_size=256,
        last_share=0.33,
        lr=lr,
        decay=0.5,
        ema=0.998,
        validate_every=100,
        loss_weights={"wa": 0, "log_mse": 1, "gradient": 1, "spread": 1, **loss_weights},
        **_STEP,
    )


def _restoring(steps: int, **settings: Any) -> Stage:
    """A stage in which one network learns to restore y by itself: the prior, and a CNP that is to know as much."""
    return Stage(
        steps=steps,
        batch_size=8,
        size=128,
        last_size=256,
        last_share=0.8,
        lr=6e-4,
        weight_decay=1e-4,
        warmup=200,
        decay=0.33,
        ema=0.999,
        clip=0.5,
        validate_every=400,
        **{"loss_weights": {"ssim": 0.15}} | settings,
    )


def _refining(bands: int, channels: int) -> DEConfig:
    """A light DE whose CNP refines the prior, and so starts as good as it."""
    cnp = UNetConfig(
        2 * bands, bands, channels=channels, res_blocks=1, multipliers=(1, 2, 3), attention=(4,), heads=4, patch=4
    )
    return _light_de(bands, cnp, "refinement")


def _refining_stages(prior: Stage, joint: Stage) -> dict[StageName, Stage]:
    """Short ones."""
    return {
        "prior": prior,
        "coarse": Stage(steps=150, size=64, shrink=4, lr=5e-4, decay=0.4, ema=0.99, **_STEP | {"batch_size": 16}),
        "weights": Stage(steps=20, size=128, lr=3e-4, ema=0.99, **_STEP),
        "joint": joint,
    }


def base() -> Recipe:
    """The default model: RGB, thin and thick cloud, 0.3 to 30 m."""
    alone = {"ddpm": 0, "log_mse": 1, "gradient": 1, "ssim": 0.15}
    return Recipe(
        name="base",
        summary="Light DE for RGB scenes under thin and thick cloud; the default",
        model=_light_de(3, LightConfig(6, 3, gain=True), "residual"),
        sources=_REAL + _MIXED + _SIMULATED + _FINE + _SENTINEL2_RGB,
        validation=(Source(path="rice1", split="rice1-val"), Source(path="rice2", split="rice2-val")),
        stages={
            "prior": _restoring(36000),
            # x_t next to pure noise, so that it learns from y alone
            "coarse": _restoring(20000, loss_weights=alone, t_power=0.1),
            "weights": Stage(steps=300, size=128, lr=3e-4, ema=0.99, **_STEP),
            "joint": _joint(800, 2e-4, detail=1),
        },
        # a share of each estimate errs less than either; where they lie far apart, the prior is out of its depth
        sampling=_ONE_STEP.model_copy(update={"weight_floor": 0.8, "weight_tolerance": 0.05}),
        limits=(
            "Real Sentinel-2 under opaque cloud comes out too bright in three bands; with near infrared rgbn is better",
            "± was calibrated at 30 m (RICE2); elsewhere it is too narrow, at 0.5 m most",
            "At 0.5 to 1 m, bright roofs and roads of a place that it never saw may be taken for cloud and dulled; "
            "give a mask",
            *_LIMITS,
        ),
    )


def base_rgbn() -> Recipe:
    """Four bands (R, G, B, NIR), fine-tuned on clear ground under simulated clouds and those of RICE2: few real pairs
    with NIR are at hand, and those are for validation. The prior starts from that of `base`; the CNP is narrower, so
    that both models together stay below 25 MB."""
    full = base()
    prior = full.stages["prior"].model_copy(update={"steps": 18000, "lr": 4e-4, "decay": 0.5})
    # x_t always from x_E: so trained, 50 steps stay nearer to one (docs/decisions.md)
    joint = _joint(1000, 4e-4, sharpness=0.3).model_copy(update={"from_prior": 1.0})
    return full.model_copy(
        update={
            "name": "rgbn",
            "summary": "Light DE for red, green, blue and near infrared; fine-tuned from base under laid-over clouds",
            "model": _refining(4, channels=24),
            "init": "base",
            "bands": ("red", "green", "blue", "nir"),
            "sources": (
                _NAIP.model_copy(update={"rows": (0.0, 0.75), "weight": 0.2} | _VARIED),
                Source(kind="landscapes", count=96, weight=0.3, cloudless=0.2),
                _SENTINEL2.model_copy(update={"weight": 0.1} | _VARIED),
                _SENTINEL2_SERIES.model_copy(update={"weight": 0.1} | _VARIED),
                _SENTINEL2.model_copy(update={"weight": 0.1} | _RICE2_CLOUDS),
                _SENTINEL2_SERIES.model_copy(update={"weight": 0.1} | _RICE2_CLOUDS),
                _TOWNS.model_copy(update={"varied": 0.5, "contrast": 0.4}),
                Source(kind="landscapes", count=64, gsd=(0.5, 1, 2, 5, 10), weight=0.05, cloudless=0.2, contrast=0.3),
            ),
            "validation": (
                _NAIP.model_copy(update={"rows": (0.75, 1.0)}),
                Source(path="sen12mscr", dataset="sen12ms-cr", split="sen12mscr-val", channels=_S2_CHANNELS),
            ),
            "stages": _refining_stages(prior, joint),
            # below 0.7, 50 steps lead away from the prior on ground that it never saw; where W would be 1, no spread
            "sampling": _ONE_STEP.model_copy(update={"weight_floor": 0.7, "weight_ceiling": 0.98}),
            "limits": (
                "Fine-tuned under simulated clouds and those of RICE2, over few places, none finer than 1 m; "
                "real cloud is harder",
                "On real Sentinel-2 under nearly full cover the few clear pixels darken, by 18 % in near infrared; "
                "give a mask",
                "± covers 54 % of the errors under cloud and 77 % beside it where 68 % is nominal",
                *_LIMITS,
            ),
        }
    )


def own() -> Recipe:
    """The light model for anyone's pairs, or clear images (`--simulate`); bands and units are those of the files
    (training/own.py). Its CNP refines the prior: a second estimator would want as many steps as the first."""
    full = base()
    return full.model_copy(
        update={
            "name": "own",
            "summary": "Light DE, trained on own data",
            "model": _refining(3, channels=32),
            "sources": (Source(),),
            "validation": (Source(),),
            "sampling": _ONE_STEP.model_copy(update={"scales": 1, "self_ensemble": 2}),  # its files have one scale
            "stages": _refining_stages(_restoring(29000), _joint(450, 4e-4, sharpness=0.1)),
            "limits": (),
        }
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "base": base,  # what ships: RGB
    "rgbn": base_rgbn,  # and with near infrared
    "own": own,  # --data is the user's
    **papers.rows(),  # METHOD-DATASET, de-METHOD-DATASET
}


def recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """The recipe `name` with `settings` ("stages.joint.lr=1e-4") applied; UsageError names a wrong key and what it
    allows."""
    if name not in RECIPES:
        raise UsageError(
            f"There is no recipe named {name!r}. Choose base, rgbn, own, or a method of the papers on a data set: "
            f"METHOD-DATA or de-METHOD-DATA, where METHOD is one of {', '.join(papers.PRIORS)} (alone also diffusion, "
            f"diffcr) and DATA one of {', '.join(papers.DATA)}."
        )
    values = _lists(RECIPES[name]().model_dump())
    plain = dict(values["model"])
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(
                f"--set {setting} is not of the form key=value. Write, for example, --set stages.joint.lr=1e-4."
            )
        _set(values, key, _value(setting, text))
    _widen(values["model"], plain, keys(settings))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        path, value, what = first_problem(error)
        where = ".".join(map(str, _without_tags(path, values)))
        if not where:
            raise UsageError(f"The recipe {name} does not hold together: {what}. Mend its --set.") from error
        raise UsageError(f"The recipe value {where} cannot be {_shown(value)}: {what}. Mend its --set.") from error


def _without_tags(path: Sequence[str | int], values: Any) -> Iterator[str | int]:
    """Where the value stands in the recipe: pydantic's path without the names of the alternatives that it tried."""
    for n, part in enumerate(path, start=1):
        if isinstance(values, dict):
            known = part in values or n == len(path)  # the last one may be missing
        else:
            known = isinstance(values, list | tuple) and isinstance(part, int)
        if known:
            yield part
            values = values[part] if n < len(path) else None


def keys(settings: Sequence[str]) -> frozenset[str]:
    """What `settings` set: "model.sar" of "model.sar=2"."""
    return frozenset(setting.partition("=")[0] for setting in settings)


def _widen(model: Any, plain: dict[str, Any], by_hand: Set[str]) -> None:
    """CNP and WA see the bands of Sentinel-1 that --set model.sar adds, unless it also says how wide they are."""
    if "model.sar" not in by_hand or "model" in by_hand or model["sar"] not in (0, 2):
        return
    for part in ("cnp", "wa"):
        if model.get(part) and not {f"model.{part}", f"model.{part}.in_channels"} & by_hand:
            model[part]["in_channels"] += model["sar"] - plain["sar"]


def _value(setting: str, text: str) -> object:
    """What a --set gives, in YAML."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date that there is not
        raise UsageError(
            f"--set {setting} gives no value. Write a number, a word, true, null, or a list such as [0.2,0.8]."
        ) from error


def _shown(value: object) -> str:
    return "what it is" if isinstance(value, dict | BaseModel) else repr(value)


def _set(values: dict[str, Any], key: str, value: object) -> None:
    """values["a"]["b"] = value for the key "a.b"; only keys that are there can be set (list items by their number)."""
    *path, last = key.split(".")
    here: Any = values
    for part in path:
        here = here[_known(here, part, key)]
    here[_known(here, last, key)] = value


def _lists(values: Any) -> Any:
    """The same with lists for tuples, whose items can be set."""
    if isinstance(values, dict):
        return {key: _lists(value) for key, value in values.items()}
    return [_lists(value) for value in values] if isinstance(values, list | tuple) else values


def _known(here: Any, part: str, key: str) -> str | int:
    if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
        return int(part)
    if isinstance(here, dict) and part in here:
        return part
    keys = range(len(here)) if isinstance(here, list) else here if isinstance(here, dict) else ()
    raise UsageError(
        f"The recipe has no value {key!r}. "
        f"Where {part!r} stands it knows: {', '.join(map(str, keys)) or 'no further parts'}."
    )

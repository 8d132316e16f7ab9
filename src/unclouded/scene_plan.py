"""What is decided about a scene before its first pixel is restored: bands, range, tiles, mask, sampling, files."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unclouded.diffusion.schedule import timesteps
from unclouded.errors import UsageError
from unclouded.models import store
from unclouded.models.card import ModelCard, spread_meaning
from unclouded.sampling import PAPER, Sampling, changed
from unclouded.scene_options import BATCH_SIZE, GPU_BATCH_SIZE, SceneOptions
from unclouded.scenes.bands import BandSet, DnRange
from unclouded.scenes.cloud_detector import CloudMask, l1c_bands, load_detector
from unclouded.scenes.conditions import Condition, FurtherDate, Radar, radar_bands
from unclouded.scenes.masks import Distance, FileMask
from unclouded.scenes.names import without_secrets
from unclouded.scenes.opening import open_scene
from unclouded.scenes.probe import bands_by_name, facts, find_range, match_bands, sample
from unclouded.scenes.products import MASK, UNCERTAINTY, WEIGHTS, Product, layer_product, scene_product
from unclouded.scenes.provenance import file_facts, model_digest
from unclouded.scenes.raster import Scene, SceneInfo
from unclouded.scenes.same_grid import on_grid
from unclouded.scenes.stretch import parse_stretch, stretched_range
from unclouded.scenes.tiles import TileGrid
from unclouded.strips import Job, MaskLike, RestorerLike, schedule_of

AUTO = "auto"


def choose_model(info: SceneInfo, bands: Sequence[int] | None) -> str:
    """The shipped model with the most bands of those whose bands the scene names, or that take as many as `bands`
    chooses; `base` among equals, and where none fits."""
    sets = {name: store.read_card(path).bands for name, path in store.shipped().items()}
    usable = {
        name: len(model)
        for name, model in sets.items()
        if (len(bands) == len(model) if bands else bands_by_name(info, model.names) is not None)
    }
    return max(usable, key=lambda name: (usable[name], name == "base"), default="base")


def plan(
    scene: Scene,
    restorer: RestorerLike,
    options: SceneOptions,
    sampling: Sampling | None,
    mask: MaskLike | None,
    conditions: tuple[Condition, ...] = (),
) -> Job:
    """Decide everything about the run: which bands, which range, which tiles. Raises UsageError and UncloudedError."""
    info, model = scene.info, restorer.bands
    grid = tile_grid(info, sampling, options.tile, options.overlap)
    together = batch_size(restorer, grid, options.batch_size)
    bands, dn_range, quantiles = _bands_and_range(scene, model, options)
    layers = ("clear", *(["spread"] if options.uncertainty_out else []), *(["w"] if options.weights_out else []))
    if options.uncertainty_out and sampling is not None and sampling.samples < 2:
        raise UsageError("One sample has no spread. Ask for --samples 2 or more, or leave --uncertainty-out out.")
    _check_weights(options, sampling)
    return Job(
        scene=scene,
        restorer=restorer,
        sampling=sampling,
        bands=bands,
        dn_range=dn_range,
        fill=dn_range.to_model(quantiles[0][:, None, None])[:, 0, 0],
        grid=grid,
        batch_size=together,
        mask=mask,
        conditions=conditions,
        layers=layers,
        panel_width=options.panel_width,
        at_a_time=_batches_at_a_time(restorer) if len(grid) > together else 1,
        weights_step=options.weights_step,
    )


def _batches_at_a_time(restorer: RestorerLike) -> int:
    """Two on a processor with two threads or more, which leaves them idle less often than dividing every operation; and
    on a GPU, which then has the next batch before it has given back the last."""
    if getattr(restorer, "compiled", False):
        return 1
    device = _device_type(restorer)
    return 2 if device == "cuda" or (device == "cpu" and torch.get_num_threads() > 1) else 1


def _device_type(restorer: RestorerLike) -> str | None:
    """ "cpu", "cuda" or "mps"; None for a restorer that does not say."""
    return getattr(getattr(restorer, "device", None), "type", None)


def tile_grid(info: SceneInfo, sampling: Sampling | None, tile: int | None, overlap: int) -> TileGrid:
    """Tiles of `tile` pixels a side; if that is None, even ones of about what `sampling` says."""
    if tile is not None:
        return TileGrid(info.height, info.width, tile, overlap)
    return TileGrid(info.height, info.width, (sampling or PAPER).tile, overlap, even=True)


def batch_size(restorer: RestorerLike, grid: TileGrid, asked: int | None = None) -> int:
    """As asked for; else what keeps the device busy, of large tiles fewer."""
    if asked is None:
        most = GPU_BATCH_SIZE if _device_type(restorer) == "cuda" else BATCH_SIZE
        return max(1, min(most, most * PAPER.tile**2 // (grid.tile_height * grid.tile_width)))
    if asked < 1:
        raise UsageError(f"A batch of {asked} tiles is empty. Give --batch-size 1 or more.")
    return asked


def _bands_and_range(
    scene: Scene, model: BandSet, options: SceneOptions
) -> tuple[tuple[int, ...], DnRange, NDArray[np.float64]]:
    """The model's bands; which numbers are black and white to it, by one of the three options, or by what the scene
    says; and the bands' median, 99.5 % quantile and maximum [3, C]."""
    given = {"--range": options.value_range, "--reflectance": options.reflectance, "--stretch": options.stretch}
    asked = [name for name, value in given.items() if value is not None]
    if len(asked) > 1:
        raise UsageError(f"{asked[0]} and {asked[1]} both say which numbers are black and white. Give one of them.")
    bands = match_bands(scene.info, model, options.bands)
    quantiles = sample(scene, bands)
    if options.stretch is not None:
        return bands, stretched_range(scene, bands, parse_stretch(options.stretch)), quantiles
    chosen = options.value_range, options.reflectance
    return bands, find_range(scene.info, model, bands, quantiles, *chosen), quantiles


def open_conditions(
    info: SceneInfo, restorer: RestorerLike, options: SceneOptions, opened: ExitStack
) -> tuple[Condition, ...]:
    """The further dates and the radar image that the model takes, on the scene's grid, each read as the scene is.

    Raises UsageError if the model takes none, or another number of them, and UncloudedError for files that do not fit.
    """
    _check_conditions(restorer, options)
    found: list[Condition] = []
    for path in options.dates:
        date = opened.enter_context(open_scene(path))
        bands, dn_range, _ = _bands_and_range(date, restorer.bands, options)
        found.append(FurtherDate(on_grid(date, info, "date", opened), bands, dn_range))
    if options.sar is not None:
        radar = opened.enter_context(open_scene(options.sar))
        bands = radar_bands(radar)
        found.append(Radar(on_grid(radar, info, "radar image", opened), bands))
    return tuple(found)


def _check_conditions(restorer: RestorerLike, options: SceneOptions) -> None:
    frames, sar = (getattr(restorer, name, default) for name, default in (("frames", 1), ("sar", 0)))
    name, given = model_name(restorer), len(options.dates)
    if given != frames - 1:
        takes = "one cloudy image" if frames == 1 else f"cloudy images of {frames} dates"
        mend = "Leave --date out" if frames == 1 else f"Give --date {frames - 1} times, each with a file, beside INPUT"
        raise UsageError(f"The model {name} takes {takes}, and --date gives {given} beside the scene. {mend}.")
    if sar and options.sar is None:
        raise UsageError(f"The model {name} also takes Sentinel-1's VV and VH. Give them in dB with --sar FILE.")
    if options.sar is not None and not sar:
        raise UsageError(f"The model {name} takes no radar image. Leave --sar out, or choose a model that takes one.")


def _check_weights(options: SceneOptions, sampling: Sampling | None) -> None:
    if options.weights_out is not None and sampling is not None and sampling.settle is not None:
        raise UsageError(
            "With --settle tiles take different steps, so W has no mean. Leave --settle or --weights-out out."
        )
    step, steps = options.weights_step, None if sampling is None else sampling.steps
    if step is None:
        return
    if options.weights_out is None:
        raise UsageError("--weights-step chooses what --weights-out writes. Give --weights-out too, or leave it out.")
    if step < 1 or (steps is not None and step > steps):
        raise UsageError(f"There is no step {step}: sampling has the steps 1 to {steps}. Give --weights-step one.")


def open_mask(scene: Scene, options: SceneOptions) -> FileMask | CloudMask | None:
    """The mask that is known before the restoration: a file's, or s2cloudless' if --mask auto can have it."""
    if not has_mask_file(options):
        _refuse_mask_options(options)
        bands = l1c_bands(scene.info) if options.mask == "auto" else None
        detector = load_detector() if bands else None
        return CloudMask(scene, bands, detector, options.reflectance) if bands and detector is not None else None
    return FileMask(
        str(options.mask),
        scene.info,
        options.mask_values,
        Distance.parse(options.mask_dilate),
        Distance.parse(options.mask_feather),
    )


def has_mask_file(options: SceneOptions) -> bool:
    return options.mask not in (None, "none", "auto")


def mask_said(job: Job, options: SceneOptions) -> str:
    """The mask's source for tags and reports: a file, none, or how "auto" found it."""
    if options.mask != "auto":
        return without_secrets(str(options.mask or "none"))
    return "auto (s2cloudless)" if job.mask is not None else "auto (from what the model changed)"


def _refuse_mask_options(options: SceneOptions) -> None:
    if options.mask_values is not None or options.mask_dilate != "0" or options.mask_feather != "0":
        raise UsageError(
            f"--mask-values, --mask-dilate and --mask-feather shape a mask file; --mask is {options.mask or 'none'}. "
            f"Give a file with --mask, or leave them out."
        )


def chosen_sampling(restorer: RestorerLike, options: SceneOptions) -> Sampling | None:
    """The model card's sampling of the chosen quality with the user's changes; None if none of them says anything.
    Raises UsageError for steps that do not fit into the model's schedule."""
    sampling = _wanted_sampling(restorer, options)
    schedule = schedule_of(restorer)
    if sampling is not None and schedule is not None:
        timesteps(schedule.T, sampling.steps, sampling.spacing, start=sampling.start)
    if sampling is not None and options.tile is not None:
        return sampling.model_copy(update={"tile": options.tile})
    return sampling


def _wanted_sampling(restorer: RestorerLike, options: SceneOptions) -> Sampling | None:
    if isinstance(options.sampling, Sampling):
        return options.sampling
    card: ModelCard | None = getattr(restorer, "card", None)
    default = None if card is None else card.at(options.quality)
    if not options.sampling:
        return default
    return changed(default or PAPER, options.sampling)


def products_of(job: Job, dst: Path, options: SceneOptions) -> list[Product]:
    info, model = job.scene.info, job.restorer.bands
    asked = {UNCERTAINTY: options.uncertainty_out, WEIGHTS: options.weights_out, MASK: options.mask_out}
    maps = [layer_product(layer, Path(path), info, model) for layer, path in asked.items() if path is not None]
    return [scene_product(dst, info, job.bands), *maps]


def model_name(restorer: RestorerLike) -> str:
    return str(getattr(getattr(restorer, "card", None), "name", type(restorer).__name__))


def meaning_of_spread(job: Job) -> str | None:
    """What "±" is in this run; None if its spread was not asked for."""
    if "spread" not in job.layers or job.sampling is None:
        return None
    return spread_meaning(getattr(job.restorer, "card", None), job.sampling.samples)


def run_identity(src: str, job: Job, model: str, options: SceneOptions) -> dict[str, Any]:
    """What must be the same for a run to be gone on with."""
    return {
        "input": file_facts(src),
        "scene": facts(job.scene.info),
        "model": [model, model_digest(job.restorer)],
        "sampling": job.sampling.model_dump() if job.sampling else None,
        "--precision": getattr(job.restorer, "precision", None),
        "--bands": list(job.bands),
        "--stretch": options.stretch,
        "--range": job.dn_range.model_dump(),
        "--weights-step": options.weights_step,
        "--tile": [job.grid.tile_height, job.grid.tile_width],
        "--overlap": options.overlap,
        "panel width": job.panel_width,
        "--batch-size": job.batch_size,
        **{option: file_facts(str(path)) for option, path in options.conditions().items()},
        "--mask": file_facts(str(options.mask)) if has_mask_file(options) else [mask_said(job, options)],
        "mask options": [options.mask_values, options.mask_dilate, options.mask_feather],
        "layers": [*job.layers, *(["mask"] if options.mask_out or options.report else [])],
    }

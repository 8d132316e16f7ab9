"""A whole scene: read, restore, blend, write. The only place where scenes/ meets models."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial as with_first
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import rasterio

from unclouded.finished_rows import CLASS_NAMES, Finished, as_it_is, store
from unclouded.scene_budget import ScenePlan, fit, memory, parse_size, warm_up
from unclouded.scene_options import SceneOptions, SceneReport
from unclouded.scene_plan import (
    AUTO,
    choose_model,
    chosen_sampling,
    has_mask_file,
    mask_said,
    meaning_of_spread,
    model_name,
    open_conditions,
    open_mask,
    plan,
    products_of,
    run_identity,
)
from unclouded.scene_report import write_scene_report
from unclouded.scenes.auto_mask import HALO, auto_masked
from unclouded.scenes.compose import Rows
from unclouded.scenes.failures import NoRoomError
from unclouded.scenes.masks import FileMask
from unclouded.scenes.opening import open_scene
from unclouded.scenes.partial import Layer, Partial, earlier_plan, partial_folder
from unclouded.scenes.preview import check_preview, shown_bands
from unclouded.scenes.probe import facts, passed_through
from unclouded.scenes.products import (
    MASK,
    write_products,
)
from unclouded.scenes.provenance import condition_tags, provenance_tags
from unclouded.scenes.raster import CACHE_BYTES, cache_bytes
from unclouded.scenes.stac import acquired, check_pystac, write_stac
from unclouded.scenes.targets import check_targets
from unclouded.shared_tiles import SharedTiles
from unclouded.strips import Job, RestorerLike, restored_rows

Progress = Callable[[int, int], None]


def restore_scene(
    src: str | Path,
    dst: str | Path,
    *,
    model: str | Path | RestorerLike = AUTO,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> SceneReport:
    """Take the clouds out of the scene `src` and write it, on the same grid, to `dst`.

    `model` is a shipped model's name, a model file, a Restorer, or "auto": the shipped model for the bands that the
    scene names, so the one with near infrared where there is that. `options` are the fields of SceneOptions:
    `quality` ("fast", "balanced" or "paper"), `sampling` (a Sampling, or the settings that differ from that
    quality's), `bands` (scene band of every model band), `value_range` (DN that are black and white), `reflectance`
    (scale, offset) or `stretch` ("p2-98"), `dates` (files of further cloudy dates) and `sar` (a file of Sentinel-1's VV
    and VH in dB) for a model that takes them, `mask` ("none", "auto" or a file) with `mask_values`, `mask_dilate`,
    `mask_feather`, `tile`, `overlap`, `batch_size`, the further outputs `mask_out`, `weights_out` (with
    `weights_step`), `uncertainty_out`, `preview`, `report` (HTML), `cog`, `stac`, `max_memory` (as in "2GB"), and
    `overwrite`, `resume`. `progress(done, total)` is called as tiles are finished.

    Raises UsageError and UncloudedError, each with what to do; then nothing is under the final names. After Ctrl-C or a
    full disk the finished rows are kept beside `dst`, and the same call with `resume=True` goes on to the same result.
    """
    how = {"device": device, "precision": precision, "compile": compile}
    return _restore(str(src), Path(dst), model, how, progress, SceneOptions(**options))


def _restore(
    src: str,
    dst: Path,
    model: str | Path | RestorerLike,
    how: Mapping[str, Any],
    progress: Progress | None,
    options: SceneOptions,
) -> SceneReport:
    started = time.monotonic()
    with _prepared(src, dst, model, how, options) as job:
        products = products_of(job, dst, options)
        name = model_name(job.restorer)
        identity = run_identity(src, job, name, options)
        uncertainty = meaning_of_spread(job)
        layers = {product.layer: product.shape for product in products}
        if options.report is not None:
            layers.setdefault(MASK, Layer(1, np.dtype(np.uint8)))
        with _partial(dst, layers, job, identity, options.resume) as partial:
            _run(job, partial, options.mask == "auto" and job.mask is None, set(layers), progress)
            rows = Finished(job, partial)
            preview = None if options.preview is None else Path(options.preview)
            tags = provenance_tags(name, identity["model"][1], job.sampling, mask_said(job, options), src, partial.date)
            tags |= condition_tags(options.dates, options.sar)
            shown = shown_bands(job.restorer.bands, job.bands)
            write_products(
                products, partial.folder, rows.read, job.scene, preview, shown, tags, options.cog, rows.unchanged
            )
            counts = {what: rows.counts[what] for what in CLASS_NAMES.values()}
            if options.report is not None:
                meaning = {} if uncertainty is None else {"uncertainty": uncertainty}
                page_facts = {"pixels": counts, **meaning, **tags}
                write_scene_report(Path(options.report), job, partial, shown, page_facts)
            if options.stac:
                beside = {"preview": preview, "report": options.report}
                given = {name: Path(path) for name, path in beside.items() if path is not None}
                item = options.outputs(dst)["--stac"]
                write_stac(item, job.scene.info, products, tags, counts, given, options.cog)
        return SceneReport(
            **_common(src, dst, job, options),
            sampling=job.sampling,
            tiles=len(job.grid),
            pixels=counts,
            uncertainty=uncertainty,
            notes=(*getattr(job.restorer, "notes", ()), *_notes(job, counts, options)),
            seconds=round(time.monotonic() - started, 3),
        )


def plan_scene(
    src: str | Path,
    dst: str | Path,
    *,
    model: str | Path | RestorerLike = AUTO,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    **options: Any,
) -> ScenePlan:
    """What `restore_scene` with the same arguments would do and about what it would cost; writes nothing.

    The cost is measured on a few tiles and evaluations. Raises as `restore_scene` does before it begins.
    """
    chosen = SceneOptions(**options)
    how = {"device": device, "precision": precision, "compile": compile}
    with _prepared(str(src), Path(dst), model, how, chosen) as job:
        products_of(job, Path(dst), chosen)
        cost, tiles = warm_up(job), len(job.grid)
        return ScenePlan(
            **_common(str(src), Path(dst), job, chosen),
            batch_size=job.batch_size,
            tiles=tiles,
            panels=len(job.panels),
            memory_mb=round(memory(job, cost) / 1e6),
            seconds=round(tiles * cost.seconds, 1),
        )


@contextmanager
def _prepared(
    src: str, dst: Path, model: str | Path | RestorerLike, how: Mapping[str, Any], options: SceneOptions
) -> Iterator[Job]:
    """Everything opened, checked and decided, cheap checks first."""
    _check(src, dst, options)
    limit = None if options.max_memory is None else parse_size(options.max_memory)
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES))
        scene = stack.enter_context(open_scene(src))
        stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(scene.info)))
        mask = open_mask(scene, options)
        if isinstance(mask, FileMask):
            stack.enter_context(mask)
        restorer = _load(choose_model(scene.info, options.bands) if model == AUTO else model, how)
        conditions = open_conditions(scene.info, restorer, options, stack)
        job = plan(scene, restorer, options, chosen_sampling(restorer, options), mask, conditions)
        earlier = earlier_plan(dst) if options.resume and limit is not None else {}
        if earlier:  # what fitted then, since what is free now would give other panels
            batch, width = int(earlier["--batch-size"]), int(earlier["panel width"])
            job = replace(job, batch_size=batch, panel_width=width, at_a_time=1)
        elif limit is not None:
            job = fit(job, warm_up(job), limit)
        yield job


def _common(src: str, dst: Path, job: Job, options: SceneOptions) -> dict[str, Any]:
    """What plan and report both say."""
    return {
        "input": src,
        "output": str(dst),
        "model": model_name(job.restorer),
        "scene": facts(job.scene.info),
        "bands": dict(zip(job.restorer.bands.names, job.bands, strict=True)),
        "passed_through": passed_through(job.scene.info, job.bands),
        "dn_range": job.dn_range,
        "dates": tuple(map(str, options.dates)),
        "sar": None if options.sar is None else str(options.sar),
        "mask": mask_said(job, options),
        "tile": (job.grid.tile_height, job.grid.tile_width),
        "overlap": options.overlap,
        "files": {"output": str(dst), **{o.lstrip("-"): str(p) for o, p in options.outputs(dst).items()}},
    }


def _check(src: str, dst: Path, options: SceneOptions) -> None:
    inputs: dict[str, str | Path] = {"INPUT": src, **options.conditions()}
    if has_mask_file(options):
        inputs["--mask"] = str(options.mask)
    # an unfinished run was allowed to write its outputs when it began, and may have moved some of them already
    resuming = options.resume and partial_folder(dst).is_dir()
    check_targets(inputs, {"OUTPUT": dst, **options.outputs(dst)}, options.overwrite or resuming)
    if options.preview is not None:
        check_preview(Path(options.preview))
    if options.stac:
        check_pystac()


def _load(model: str | Path | RestorerLike, how: Mapping[str, Any]) -> RestorerLike:
    if not isinstance(model, str | Path):
        return model
    from unclouded.restore import load

    restorer: RestorerLike = load(str(model), **how)
    return restorer


@contextmanager
def _partial(
    dst: Path,
    layers: Mapping[str, Layer],
    job: Job,
    identity: Mapping[str, Any],
    resume: bool,
) -> Iterator[Partial]:
    """The folder of unfinished rows: gone after success and after errors, kept after Ctrl-C and a full disk."""
    kept = with_first(as_it_is, job)
    partial = (Partial.resume if resume else Partial.create)(dst, layers, job.panels, identity, kept)
    keep = False
    try:
        yield partial
    except (KeyboardInterrupt, NoRoomError):
        keep = partial.begun
        raise
    finally:
        if not keep:
            partial.remove()


def _run(job: Job, partial: Partial, auto_mask: bool, layers: set[str], progress: Progress | None) -> None:
    """Restore what is missing, panel by panel."""
    halo = HALO if auto_mask else 0
    bars = _Tiles(job, partial.panel, max(0, partial.rows_done - halo), halo, progress)
    with TemporaryFile(dir=partial.folder, buffering=0) as file:
        shared = SharedTiles(file)
        for left, right in job.panels[partial.panel :]:
            first, wide = partial.rows_done, (max(0, left - halo), min(job.grid.width, right + halo))
            shared.keep_beyond(right - halo if right < job.grid.width else None)
            restored = restored_rows(job, max(0, first - halo), wide, bars.add, shared)
            finished = auto_masked(restored, job.grid.height, first) if auto_mask else restored
            with closing(restored):
                _store(job, partial, finished, layers, slice(left - wide[0], right - wide[0]))
            partial.next_panel(job.grid.height)


def _store(job: Job, partial: Partial, finished: Iterator[Rows], layers: set[str], cols: slice) -> None:
    """Store these columns of finished rows, in a thread, while the model works on the next."""
    with ThreadPoolExecutor(1, thread_name_prefix="unclouded-writer") as writer:
        pending: Future[None] | None = None
        for rows in finished:
            if pending is not None:
                pending.result()
            own = rows.crop(rows.top, rows.top + rows.height, cols)
            pending = writer.submit(store, own, job, partial, layers)
        if pending is not None:
            pending.result()


class _Tiles:
    """Counts finished tiles for a progress bar; tiles that two panels need count twice."""

    def __init__(self, job: Job, panel: int, row: int, halo: int, progress: Progress | None) -> None:
        grid = job.grid
        wide = [len(grid.touching(left - halo, right + halo)) for left, right in job.panels]
        self._total = sum(wide) * len(grid.row_starts)
        self._done = sum(wide[:panel]) * len(grid.row_starts)
        self._done += grid.resume_at(row) * wide[panel] if panel < len(wide) else 0
        self._progress = progress
        self.add(0)

    def add(self, n: int) -> None:
        self._done += n
        if self._progress is not None:
            self._progress(self._done, self._total)


def _notes(job: Job, counts: Mapping[str, int], options: SceneOptions) -> tuple[str, ...]:
    """What a user should know though nothing went wrong."""
    info = job.scene.info
    notes = []
    if job.room.tiles is not None:
        notes.append(
            f"Memory ran out: the run went on with {job.room.tiles} instead of {job.batch_size} tiles at a time."
        )
    assumed = info.dtype.itemsize > 1 and job.dn_range == job.restorer.bands.dn_range(info.dtype)
    if assumed and (job.fill >= 1).all():
        notes.append(
            f"Most of the scene is white to the model ({max(job.dn_range.high):g} or more). If that is not cloud, say "
            "what the numbers mean, with --reflectance (of Landsat Collection 2: 2.75e-5,-0.2) or --range."
        )
    if info.kind == "raster" and info.crs is None and not info.gcps:
        notes.append("The scene has no coordinate system; the output has none either.")
    if options.stac and acquired(info) is None:
        notes.append("The scene does not say when it was taken; the STAC Item has the day of the run.")
    if not counts["synthesised"] and not counts["blended"]:
        notes.append("The mask marks no pixel that has data; the output equals the input.")
    elif not counts["input"] and not counts["blended"]:
        notes.append("Every pixel that has data was synthesised.")
    return tuple(notes)

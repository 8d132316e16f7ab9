"""The HTML report of a finished run: thumbnails, masks and histograms gathered for `report_html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unclouded.report_html import histogram, write_report
from unclouded.scenes.names import file_name
from unclouded.scenes.partial import Partial
from unclouded.scenes.preview import stretched
from unclouded.scenes.products import MASK, SCENE, UNCERTAINTY
from unclouded.scenes.raster import sample_valid
from unclouded.strips import Job

SIDE = 1600


def write_scene_report(
    path: Path, job: Job, partial: Partial, shown: Sequence[int], facts: Mapping[str, object]
) -> None:
    """Write the report of the finished rows in `partial`; `shown` are the scene bands of the picture."""
    scene, info = job.scene, job.scene.info
    before = scene.thumbnail(SIDE, range(1, info.count + 1))
    after, mask = (partial.thumbnail(layer, info.height, SIDE) for layer in (SCENE, MASK))
    after = after[:, : before.shape[1], : before.shape[2]]
    pick = [band - 1 for band in shown]
    pictures = stretched(before[pick], after[pick], info, shown)
    spread = partial.thumbnail(UNCERTAINTY, info.height, SIDE) if "spread" in job.layers else None
    histograms = []
    for name, band in zip(job.restorer.bands.names, job.bands, strict=True):
        sides = (before[[band - 1]], after[[band - 1]])
        left, right = (np.where(sample_valid(dn, info, [band]), dn, np.nan) for dn in sides)
        histograms.append(histogram(name, left, right))
    title = f"Clouds removed from {file_name(info.name)}"
    write_report(path, *pictures, mask[0], spread, histograms, facts, title=title)

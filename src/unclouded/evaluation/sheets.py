"""Comparison sheets (Figs. 6 and 7): a row an image, a column a method, between the cloudy and the clear image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError
from unclouded.evaluation.evaluate import Score
from unclouded.scenes.failures import make_folder, writing

LINE = 14  # pixels of a caption


def extremes(scores: Sequence[Score], count: int, metric: str = "psnr") -> dict[str, list[str]]:
    """Stems of the `count` best, median and worst images by a metric where more is better."""
    ranked = sorted((s for s in scores if metric in s.values), key=lambda s: (-s.values[metric], s.stem))
    if len(ranked) < count:
        raise UsageError(f"{len(ranked)} images cannot give {count} of a kind. Ask for fewer.")
    middle = (len(ranked) - count) // 2
    parts = {"best": ranked[:count], "median": ranked[middle : middle + count], "worst": ranked[-count:]}
    return {name: [score.stem for score in part] for name, part in parts.items()}


def sheet(rows: Mapping[str, Sequence[NDArray[Any]]], columns: Sequence[str], path: Path, side: int = 192) -> Path:
    """Write a PNG: `rows` maps a caption to one image [C, H, W] in [0, 1] per column; images are fitted into `side`.

    Of more than three bands the first three are shown. Raises UsageError for a row of another length than `columns`.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (len(columns) * (side + 2), LINE + len(rows) * (side + LINE)), "white")
    draw = ImageDraw.Draw(canvas)
    for c, name in enumerate(columns):
        draw.text((c * (side + 2) + 2, 1), name, fill="black")
    for r, (caption, images) in enumerate(rows.items()):
        if len(images) != len(columns):
            raise UsageError(
                f"The row {caption} has {len(images)} images for {len(columns)} columns. Give one per column."
            )
        top = LINE + r * (side + LINE)
        draw.text((2, top + 1), caption, fill="black")
        for c, image in enumerate(images):
            canvas.paste(_fitted(image, side), (c * (side + 2), top + LINE))
    make_folder(path.parent)
    with writing(path):
        canvas.save(path)
    return path


def _fitted(image: NDArray[Any], side: int) -> Any:
    from PIL import Image

    bands = image[:3] if len(image) >= 3 else np.repeat(image[:1], 3, axis=0)
    picture = Image.fromarray(
        np.ascontiguousarray(np.rint(np.clip(bands, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
    )
    scale = side / max(picture.size)
    width, height = (max(1, round(n * scale)) for n in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)

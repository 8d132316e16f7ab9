"""A report of one scene as a single HTML file that opens from disk: swipe, layers, histograms, facts.

The page lies in `report.html` beside this module; here its parts are made. Nothing is loaded from elsewhere, and every
string that comes from outside is escaped.
"""

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unclouded.errors import UsageError
from unclouded.scenes.failures import writing

SIDE = 1600  # longest side of the embedded picture
BLENDED, SYNTHESISED = 1, 2  # values of the mask, as `--mask-out` writes them
LAYER_COLOURS = {SYNTHESISED: (255, 0, 200, 130), BLENDED: (255, 190, 0, 130)}  # RGBA
RAMP = ((13, 8, 60), (120, 28, 109), (203, 71, 76), (246, 140, 30), (252, 240, 130))  # low to high uncertainty
RAMP_ALPHA = 205
WARNING = (
    "Where cloud hid the ground, this picture shows what a model finds plausible. Do not measure, count or map change "
    "on such pixels without other evidence."
)
LAYERS_SHOW = " The layers below the picture show where they are and how sure the model is."
NO_LAYERS = " This file does not say which pixels those are: no mask and no uncertainty were written."
PLOT = (260, 90)  # width and height of a histogram in its own units

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Histogram:
    """How often values occur in one band, before and after: bin edges [n + 1] in scene units, counts [n] each."""

    band: str
    edges: Pixels
    before: Pixels
    after: Pixels


def histogram(band: str, before: Pixels, after: Pixels, bins: int = 64) -> Histogram:
    """Histogram of one band's values (any shape; NaN is left out) over the range that both share."""
    values = [image[np.isfinite(image)].astype(np.float64) for image in (before, after)]
    known = [image for image in values if image.size]
    low = min((float(image.min()) for image in known), default=0.0)
    high = max((float(image.max()) for image in known), default=1.0)
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    counts = [np.histogram(image, edges)[0] for image in values]
    return Histogram(band, edges, *counts)


def write_report(
    path: str | Path,
    before: Pixels,
    after: Pixels,
    mask: Pixels | None = None,
    uncertainty: Pixels | None = None,
    histograms: Sequence[Histogram] = (),
    facts: Mapping[str, object] | None = None,
    *,
    title: str = "Clouds removed",
    units: str = "",
) -> None:
    """Write the report of a scene to `path`, whole or not at all.

    before, after  previews, uint8 [3, H, W] on one grid
    mask           what was synthesised, [H, W]: 0 input, 1 blended, 2 synthesised, other values: no data
    uncertainty    standard deviation, [H, W] or [C, H, W] (then the bands' mean is shown), in `units`; NaN: no data
    facts          name -> value, in the order of the table

    Raises UsageError for shapes that do not fit and UncloudedError if the file cannot be written.
    """
    path = Path(path)
    _check(before, after, mask, uncertainty)
    page = _page(before, after, mask, uncertainty, histograms, facts or {}, title, units)
    temporary = path.with_name(f".{path.name}.part")
    with writing(path):
        try:
            temporary.write_text(page, encoding="utf-8")
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _check(before: Pixels, after: Pixels, mask: Pixels | None, uncertainty: Pixels | None) -> None:
    if before.ndim != 3 or len(before) != 3 or before.dtype != np.uint8 or not before.size:
        raise UsageError(f"The preview is {before.dtype} {before.shape}. Give uint8 of the shape [3, H, W].")
    layers = {"after": after.shape[1:], "mask": None if mask is None else mask.shape}
    layers["uncertainty"] = None if uncertainty is None else uncertainty.shape[-2:]
    for name, shape in layers.items():
        if shape is not None and shape != before.shape[1:]:
            raise UsageError(f"{name} has the size {shape}, the preview {before.shape[1:]}. Give both on one grid.")


def _page(
    before: Pixels,
    after: Pixels,
    mask: Pixels | None,
    uncertainty: Pixels | None,
    histograms: Sequence[Histogram],
    facts: Mapping[str, object],
    title: str,
    units: str,
) -> str:
    layers, toggles, legend = [], [], []
    if mask is not None:
        layers.append(_layer("mask", _mask_picture(mask)))
        toggles.append(_toggle("mask", "Synthesised pixels"))
        legend += [_swatch(SYNTHESISED, "synthesised"), _swatch(BLENDED, "blended with the input")]
    if uncertainty is not None:
        picture, low, high = _uncertainty_picture(uncertainty)
        layers.append(_layer("uncertainty", picture))
        toggles.append(_toggle("uncertainty", "Uncertainty"))
        ends = f"{low:.3g}", f"{high:.3g}{' ' + units if units else ''}"
        legend.append(f'<span>uncertainty {ends[0]} <i class="ramp"></i> {escape(ends[1])}</span>')
    picture = _shrunk(Image.fromarray(np.moveaxis(before, 0, -1)))
    return Template(files("unclouded").joinpath("report.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        warning=escape(WARNING + (LAYERS_SHOW if layers else NO_LAYERS)),
        before=_data_uri(picture, "JPEG"),
        after=_data_uri(_shrunk(Image.fromarray(np.moveaxis(after, 0, -1))), "JPEG"),
        width=picture.width,
        height=picture.height,
        aspect=f"{picture.width / picture.height:.4f}",
        ramp=", ".join(f"rgb{colour}" for colour in RAMP),
        layers="\n".join(layers),
        toggles="\n".join(toggles),
        legend=f'<div class="legend">{"".join(legend)}</div>' if legend else "",
        histograms=_histograms(histograms),
        facts="".join(f"<tr><th scope=row>{escape(k)}</th><td>{escape(_said(v))}</td></tr>" for k, v in facts.items()),
    )


def _said(value: object) -> str:
    """A fact as a reader says it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(item) for item in value)
    return "" if value is None else str(value)


def _shrunk(picture: Image.Image, resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    picture.thumbnail((SIDE, SIDE), resampling)
    return picture


def _data_uri(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    options = {"quality": 88} if kind == "JPEG" else {"optimize": True}
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _mask_picture(mask: Pixels) -> Image.Image:
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    for value, colour in LAYER_COLOURS.items():
        rgba[mask == value] = colour
    return _shrunk(Image.fromarray(rgba), Image.Resampling.NEAREST)


def _uncertainty_picture(uncertainty: Pixels) -> tuple[Image.Image, float, float]:
    """The picture, and the values of the ramp's ends (0 and the 99 % quantile)."""
    spread = uncertainty.astype(np.float64)
    known = np.isfinite(spread) if spread.ndim == 2 else np.isfinite(spread).all(axis=0)
    spread = np.where(known, spread if spread.ndim == 2 else spread.mean(axis=0), 0.0)
    high = float(np.quantile(spread[known], 0.99)) if known.any() else 0.0
    share = np.clip(spread / (high or 1.0), 0, 1)
    stops = np.linspace(0, 1, len(RAMP))
    rgb = [np.interp(share, stops, [colour[i] for colour in RAMP]) for i in range(3)]
    rgba = np.stack([*rgb, np.where(known, RAMP_ALPHA, 0)], axis=-1).astype(np.uint8)
    return _shrunk(Image.fromarray(rgba), Image.Resampling.NEAREST), 0.0, high


def _layer(name: str, picture: Image.Image) -> str:
    return f'<img id="{name}" class="over layer" src="{_data_uri(picture, "PNG")}" alt="" hidden>'


def _toggle(layer: str, label: str) -> str:
    return f'<label class="toggle"><input type="checkbox" data-layer="{layer}"> {label}</label>'


def _swatch(value: int, label: str) -> str:
    red, green, blue, alpha = LAYER_COLOURS[value]
    colour = f"rgba({red},{green},{blue},{alpha / 255:.2f})"
    return f'<span><i class="swatch" style="background:{colour}"></i>{label}</span>'


def _histograms(histograms: Sequence[Histogram]) -> str:
    if not histograms:
        return ""
    key = (
        '<div class="legend"><span><i class="swatch" style="background:var(--was)"></i>before</span>'
        '<span><i class="swatch" style="background:var(--accent)"></i>after</span></div>'
    )
    return (
        f"<section><h2>Values per band</h2>{key}<div class=histograms>{''.join(map(_plot, histograms))}</div></section>"
    )


def _plot(h: Histogram) -> str:
    top = max(float(np.max([h.before, h.after])), 1.0)
    name, (width, height) = escape(h.band, quote=True), PLOT
    label = f"Histogram of {name}, before and after, from {h.edges[0]:.4g} to {h.edges[-1]:.4g}"
    return (
        f'<div class="card"><h3>{name}</h3>'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<path d="{_steps(h.before, top)}Z" fill="var(--was)" fill-opacity=".45"/>'
        f'<path d="{_steps(h.after, top)}" fill="none" stroke="var(--accent)" stroke-width="1.6"/></svg>'
        f'<div class="ends"><span>{h.edges[0]:.4g}</span><span>{h.edges[-1]:.4g}</span></div></div>'
    )


def _steps(counts: Pixels, top: float) -> str:
    """An SVG path along the tops of the bins; heights go by the square root, so that small counts show."""
    width, height = PLOT
    x = np.linspace(0, width, len(counts) + 1)
    y = height - (height - 2) * np.sqrt(counts / top)
    tops = "".join(f"V{b:.1f}H{a:.1f}" for a, b in zip(x[1:], y, strict=True))
    return f"M0,{height}{tops}V{height}"

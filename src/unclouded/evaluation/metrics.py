"""How close a restored image is to the clear one. Arrays are [C, H, W]; `mask` [H, W] restricts a metric to its pixels.

Two protocols bundle the metrics (`PROTOCOLS`), because a number without its protocol cannot be compared:

- `paper`, as the DE paper reports: both images as uint8; PSNR over all bands and pixels, 255 being the peak; SSIM on
  the ITU-R BT.601 luma for 1–3 bands, the mean of the per-band SSIM for 4 or more. The published code's SSIM window
  is not known; ours is Wang et al.'s: Gaussian 11×11, σ = 1.5, K = (0.01, 0.03), only windows that lie wholly inside.
- `standard`: no rounding, values in [0, 1], peak 1; SSIM per band (the same window), then the mean; with MAE, SAM,
  ERGAS.

The rest (`gradient_ratio` for sharpness, `bias` for colour) is the same in both.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UncloudedError, UsageError

Array = NDArray[Any]
Mask = NDArray[np.bool_]
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
WINDOW_RADIUS, WINDOW_SIGMA = 5, 1.5  # Wang et al. 2004, section III-C
PSNR_CAP = 100.0  # what equal images count as in means, so that one of them does not make a mean infinite


def psnr(a: Array, b: Array, peak: float, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all bands; infinite for equal images."""
    error = _chosen((a.astype(np.float64) - b.astype(np.float64)) ** 2, mask).mean()
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))


def psnr_uint8(a: Array, b: Array, mask: Mask | None = None) -> float:
    """PSNR in dB of two uint8 images [C, H, W] (`paper` protocol)."""
    _require_uint8(a, b)
    return psnr(a, b, 255.0, mask)


def luma(image: Array) -> Array:
    """ITU-R BT.601 luma [H, W] in float64, unrounded, of RGB [3, H, W]; the band itself for [1, H, W], the mean for
    two."""
    if len(image) == 3:
        return np.asarray(np.tensordot(LUMA, image.astype(np.float64), axes=1))
    return np.asarray(image.astype(np.float64).mean(axis=0))


def ssim_luma(a: Array, b: Array, mask: Mask | None = None) -> float:
    """SSIM of two uint8 images [C, H, W] (`paper` protocol): on luma up to 3 bands, else the mean over the bands."""
    _require_uint8(a, b)
    if len(a) > 3:
        return ssim(a, b, 255.0, mask)
    return ssim(luma(a)[None], luma(b)[None], 255.0, mask)


def ssim(a: Array, b: Array, peak: float, mask: Mask | None = None) -> float:
    """Mean structural similarity over bands and over windows inside the image (centred on the mask's pixels, if
    given)."""
    similarity = np.stack([ssim_map(x, y, peak) for x, y in zip(a, b, strict=True)])
    r = WINDOW_RADIUS
    return float(_chosen(similarity, None if mask is None else mask[r:-r, r:-r]).mean())


def ssim_map(a: Array, b: Array, peak: float) -> Array:
    """SSIM of each window of two bands [H, W] -> [H − 10, W − 10] (Wang et al. 2004, eq. 13, with population
    covariance)."""
    if min(a.shape) <= 2 * WINDOW_RADIUS:
        raise UncloudedError(
            f"SSIM needs images of at least 11x11 pixels, not {a.shape[1]}x{a.shape[0]}. Leave smaller images out."
        )
    a, b = a.astype(np.float64), b.astype(np.float64)
    mu_a, mu_b = _smooth(a), _smooth(b)
    var_a, var_b = _smooth(a * a) - mu_a**2, _smooth(b * b) - mu_b**2
    cov = _smooth(a * b) - mu_a * mu_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    result: Array = ((2 * mu_a * mu_b + c1) * (2 * cov + c2)) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return result


def _smooth(x: Array) -> Array:
    """Gaussian mean over the 11×11 window, where it lies wholly inside."""
    offsets = np.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2)
    kernel /= kernel.sum()
    height, width = (n - 2 * WINDOW_RADIUS for n in x.shape)
    rows = sum(k * x[i : i + height] for i, k in enumerate(kernel))
    return np.asarray(sum(k * rows[:, i : i + width] for i, k in enumerate(kernel)))


def mae(a: Array, b: Array, mask: Mask | None = None) -> float:
    """Mean absolute error, in the images' unit."""
    return float(_chosen(np.abs(a.astype(np.float64) - b.astype(np.float64)), mask).mean())


def sam(a: Array, b: Array, mask: Mask | None = None) -> float:
    """Spectral angle mapper (Kruse et al. 1993): mean angle between the pixels' spectra, in degrees. Black pixels,
    which have no angle, are left out; NaN if there are no others."""
    a, b = _chosen(a.astype(np.float64), mask), _chosen(b.astype(np.float64), mask)
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    lengths = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    seen = lengths > 0
    if not seen.any():
        return float("nan")
    cosine = (a * b).sum(axis=0)[seen] / lengths[seen]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)).mean()))


def ergas(a: Array, b: Array, mask: Mask | None = None, ratio: float = 1.0) -> float:
    """Erreur relative globale adimensionnelle de synthèse (Wald 2000) of `a` against the truth `b`, lower is better.

    `ratio` is coarse over fine ground sample distance; 1 where, as in cloud removal, both are equal. NaN if a band of
    the truth is black.
    """
    a, b = _chosen(a.astype(np.float64), mask), _chosen(b.astype(np.float64), mask)
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    mean = b.mean(axis=1)
    if (mean == 0).any():
        return float("nan")
    relative = ((a - b) ** 2).mean(axis=1) / mean**2
    return float(100 / ratio * np.sqrt(relative.mean()))


def gradient_energy(image: Array) -> float:
    """Mean squared difference of neighbours, down and to the right: how much fine structure an image has."""
    x = image.astype(np.float64)
    return float((np.diff(x, axis=1) ** 2).mean() + (np.diff(x, axis=2) ** 2).mean())


def gradient_ratio(a: Array, b: Array) -> float:
    """Gradient energy of the restored image over that of the clear one: below 1 is blurred. NaN if the clear one is
    flat."""
    truth = gradient_energy(b)
    return gradient_energy(a) / truth if truth > 0 else float("nan")


def bias(a: Array, b: Array, mask: Mask | None = None) -> Array:
    """Each band's mean error as a share of the truth's mean in that band, [C] (0.01 is one percent too bright)."""
    error, level = _errors_and_levels(a, b, mask)
    return np.asarray(np.divide(error, level, out=np.full(len(level), np.nan), where=level != 0))


def _errors_and_levels(a: Array, b: Array, mask: Mask | None) -> tuple[Array, Array]:
    a, b = _chosen(a.astype(np.float64), mask), _chosen(b.astype(np.float64), mask)
    return (a - b).reshape(len(a), -1).mean(axis=1), b.reshape(len(b), -1).mean(axis=1)


# Protocols: (restored, clear), both float in [0, 1], and a mask or None -> metric name -> value

Protocol = Callable[[Array, Array, Mask | None], dict[str, float]]


def to_uint8(x: Array) -> NDArray[np.uint8]:
    """[0, 1] to 0–255, rounded to the nearest."""
    return np.asarray(np.rint(np.clip(x, 0, 1) * 255), dtype=np.uint8)


def paper(restored: Array, clear: Array, mask: Mask | None = None) -> dict[str, float]:
    """The `paper` protocol: uint8 PSNR (dB, capped at 100) and SSIM; MAE in 0–255."""
    a, b = to_uint8(restored), to_uint8(clear)
    values = {"psnr": min(psnr_uint8(a, b, mask), PSNR_CAP), "ssim": ssim_luma(a, b, mask), "mae": mae(a, b, mask)}
    return values | _shape_and_colour(a, b, mask)


def standard(restored: Array, clear: Array, mask: Mask | None = None) -> dict[str, float]:
    """The `standard` protocol: unrounded PSNR (dB, capped at 100), per-band SSIM, MAE in 0–1, SAM in degrees, ERGAS."""
    a, b = np.clip(restored, 0, 1), clear
    values = {"psnr": min(psnr(a, b, 1.0, mask), PSNR_CAP), "ssim": ssim(a, b, 1.0, mask), "mae": mae(a, b, mask)}
    if len(a) > 1:
        values["sam"] = sam(a, b, mask)
    return values | {"ergas": ergas(a, b, mask)} | _shape_and_colour(a, b, mask)


def _shape_and_colour(a: Array, b: Array, mask: Mask | None) -> dict[str, float]:
    """Parts of the ratios of `ratios`: over a data set they are ratios of sums, as single images may be flat or
    black."""
    error, level = _errors_and_levels(a, b, mask)
    values = {} if mask is not None else {"gradient": gradient_energy(a), "gradient_truth": gradient_energy(b)}
    for band, (e, t) in enumerate(zip(error, level, strict=True), start=1):
        values |= {f"error_{band}": float(e), f"level_{band}": float(t)}
    return values


def ratios(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Which of a protocol's values are two parts of one ratio: its name -> (numerator, denominator)."""
    names = set(names)
    found = {"gradient_ratio": ("gradient", "gradient_truth")} if "gradient" in names else {}
    bands = sorted(int(name.removeprefix("error_")) for name in names if name.startswith("error_"))
    return found | {f"bias_{band}": (f"error_{band}", f"level_{band}") for band in bands}


PROTOCOLS: dict[str, Protocol] = {"paper": paper, "standard": standard}
_ALWAYS = ("psnr", "ssim", "mae", "gradient_ratio", "bias")
METRICS = {"paper": _ALWAYS, "standard": (*_ALWAYS, "sam", "ergas")}  # what a summary of each protocol has


def protocol(name: str) -> Protocol:
    """The protocol of that name; UsageError names the known ones."""
    if name not in PROTOCOLS:
        raise UsageError(f"There is no protocol {name!r}. Choose one of: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def check_names(wanted: Iterable[str], protocol: str, others: Iterable[str] = ()) -> None:
    """UsageError for a metric that neither the protocol nor `others` has."""
    known = (*METRICS[protocol], *others)
    for name in wanted:
        if name not in known:
            elsewhere = [other for other, names in METRICS.items() if name in names]
            where = f" The protocol {elsewhere[0]} has it." if elsewhere else ""
            raise UsageError(f"The protocol {protocol} has no metric {name!r}. It has: {', '.join(known)}.{where}")


def is_one_of(name: str, wanted: Iterable[str]) -> bool:
    """Whether a value of a summary is one of the wanted metrics; the bands of `bias` are bias_1, bias_2, …"""
    return any(name == metric or (metric == "bias" and name.startswith("bias_")) for metric in wanted)


def _chosen(x: Array, mask: Mask | None) -> Array:
    """The values of [C, H, W] at the mask's pixels, [C, n]; all of them without a mask."""
    if mask is None:
        return x
    if not mask.any():
        raise UncloudedError("The mask chooses no pixel, so there is nothing to measure. Give a mask with pixels set.")
    return x[:, mask]


def _require_uint8(a: Array, b: Array) -> None:
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise UsageError(f"This metric takes uint8 images, not {a.dtype} and {b.dtype}. Convert them with to_uint8.")
    if a.shape != b.shape:
        raise UsageError(f"The images have the shapes {a.shape} and {b.shape}. Compare images of one shape.")

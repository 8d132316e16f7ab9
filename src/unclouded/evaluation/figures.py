"""The DE paper's figures from a model and pairs at hand: each writes a picture and the numbers behind it as CSV."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unclouded.errors import UsageError
from unclouded.scenes.failures import make_folder, writing

if TYPE_CHECKING:
    from unclouded.datasets.pairs import Pair
    from unclouded.diffusion.samplers import Step
    from unclouded.evaluation.metrics import Protocol
    from unclouded.restore import Restorer
    from unclouded.sampling import Sampling

Array = NDArray[Any]
ETAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # Fig. 11's axis: the least weight of the prior


def steps_of(restorer: "Restorer", pair: "Pair", sampling: "Sampling") -> "list[Step]":
    """Every sampler step of one image, in order of sampling; x_t, x0 and W in model range [−1, 1]."""
    import torch

    from unclouded.evaluation.evaluate import load
    from unclouded.evaluation.methods import Model

    y, _ = load(pair, Model(restorer, sampling))
    steps: list[Step] = []
    restorer.restore(torch.from_numpy(y)[None], [(0, 0)], sampling, on_step=steps.append)
    if not steps:
        raise UsageError(
            f"The model {restorer.card.name} is not sampled, so it has no steps to show. Use a diffusion model."
        )
    return steps


def x0_over_steps(restorer: "Restorer", pair: "Pair", sampling: "Sampling", out: Path, columns: int = 6) -> list[Path]:
    """Fig. 4: the estimate of x0 over the steps, without the reference prior (above) and with it (below), and its
    PSNR."""
    from unclouded.evaluation.methods import to_unit, without_prior
    from unclouded.evaluation.metrics import psnr

    truth = to_unit(pair.read_clear(), restorer.bands)
    plain, from_noise = without_prior(restorer, sampling)
    runs = {
        "without prior": steps_of(plain, pair, from_noise),
        "with prior": steps_of(restorer, pair, sampling),
    }
    size = truth.shape[1:]
    rows = [
        [name, step.index, step.t, f"{psnr(unit(step.x0, size), truth, 1.0):.4f}"]
        for name, run in runs.items()
        for step in run
    ]
    figure = new_figure(1.6 * columns, 3.6)
    axes = figure.subplots(2, columns, squeeze=False)
    for line, (name, run) in zip(axes, runs.items(), strict=True):
        for axis, k in zip(line, np.linspace(0, len(run) - 1, columns).round().astype(int), strict=True):
            _show(axis, unit(run[k].x0, size), f"t = {run[k].t}")
        line[0].set_ylabel(name)
    return _save(figure, out, "fig4", ["run", "step", "t", "psnr"], rows)


def weight_map(restorer: "Restorer", pair: "Pair", sampling: "Sampling", out: Path) -> list[Path]:
    """Fig. 8: where the prior is trusted: W of the first, the middle and the last step, mean over the bands."""
    steps = _with_weights(restorer, pair, sampling)
    from unclouded.evaluation.methods import to_unit

    y = to_unit(pair.read_cloudy(), restorer.bands)
    height, width = y.shape[1:]
    chosen = [steps[0], steps[len(steps) // 2], steps[-1]]
    figure = new_figure(8.4, 2.3)
    axes = figure.subplots(1, 4)
    _show(axes[0], y, "cloudy")
    rows = []
    for axis, step in zip(axes[1:], chosen, strict=True):
        w = step.w[0].float().mean(0).cpu().numpy()[:height, :width]
        image = axis.imshow(w, vmin=0, vmax=1, cmap="viridis")
        axis.set(title=f"W, t = {step.t}", xticks=[], yticks=[])
        rows.append([step.index, step.t, *(f"{v:.6f}" for v in (w.mean(), w.min(), w.max()))])
    figure.colorbar(image, ax=axes[-1])
    return _save(figure, out, "fig8", ["step", "t", "mean", "min", "max"], rows)


def mean_weights(restorer: "Restorer", pairs: "Sequence[Pair]", sampling: "Sampling", out: Path) -> list[Path]:
    """Fig. 9: the mean of W at every step, over the pairs; for a trained model it falls as sampling goes on."""
    means = np.mean(
        [[float(s.w.float().mean()) for s in _with_weights(restorer, pair, sampling)] for pair in pairs], axis=0
    )
    times = [step.t for step in _with_weights(restorer, pairs[0], sampling)]
    figure = new_figure(4.2, 3)
    axis = figure.subplots()
    axis.plot(times, means, marker="o", markersize=3)
    axis.invert_xaxis()
    axis.set(xlabel="t (sampling runs to the right)", ylabel="mean of W")
    return _save(
        figure,
        out,
        "fig9",
        ["step", "t", "mean W"],
        [[i, t, f"{m:.6f}"] for i, (t, m) in enumerate(zip(times, means, strict=True))],
    )


def metrics_over_floor(
    restorer: "Restorer",
    pairs: "Sequence[Pair]",
    sampling: "Sampling",
    out: Path,
    protocol: "Protocol",
    etas: Sequence[float] = ETAS,
    more: "Callable[[Array, Array], dict[str, float]] | None" = None,
) -> list[Path]:
    """Fig. 11: PSNR, SSIM, sharpness and, if `more` gives it, LPIPS over η, the least weight of the prior at sampling
    (`weight_floor`)."""
    from unclouded.evaluation.evaluate import evaluate, summarise
    from unclouded.evaluation.methods import Model
    from unclouded.sampling import changed

    found = []
    for eta in etas:
        method = Model(restorer, changed(sampling, {"weight_floor": eta}))
        found.append(summarise(list(evaluate(method, pairs, protocol, more=more))))
    labels = {"psnr": "PSNR / dB", "ssim": "SSIM", "gradient_ratio": "gradient ratio", "lpips": "LPIPS"}
    names = [name for name in labels if name in found[0]]
    figure = new_figure(3 * len(names), 2.8)
    for axis, name in zip(figure.subplots(1, len(names)), names, strict=True):
        axis.plot(etas, [scores[name].mean for scores in found], marker="o", markersize=3)
        axis.set(xlabel="η", ylabel=labels[name])
    rows = [
        [f"{eta:g}", *(f"{scores[name].mean:.6f}" for name in names)] for eta, scores in zip(etas, found, strict=True)
    ]
    return _save(figure, out, "fig11", ["eta", *names], rows)


def unit(x: Any, size: tuple[int, ...]) -> Array:
    """A step's tensor [1, C, H', W'] in model range to [C, H, W] in [0, 1], cropped to `size`."""
    image = (x[0].float().cpu().numpy() / 2 + 0.5).clip(0, 1)
    return np.asarray(image[:, : size[0], : size[1]])


def _with_weights(restorer: "Restorer", pair: "Pair", sampling: "Sampling") -> "list[Any]":
    steps = [step for step in steps_of(restorer, pair, sampling) if step.w is not None]
    if not steps:
        raise UsageError(
            f"The model {restorer.card.name} allocates no weights, so there is no W to show. Use a DE model."
        )
    return steps


def new_figure(width: float, height: float) -> Any:
    """An empty figure of matplotlib's, in inches. Raises UsageError where that is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as reason:
        raise UsageError("Figures need matplotlib. Install it with: pip install 'unclouded[plot]'.") from reason
    return Figure(figsize=(width, height), layout="constrained")


def _show(axis: Any, image: Array, title: str) -> None:
    shown = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    axis.imshow(shown.transpose(1, 2, 0))
    axis.set(title=title, xticks=[], yticks=[])


def _save(figure: Any, out: Path, name: str, header: list[str], rows: list[list[Any]]) -> list[Path]:
    with writing(make_folder(out)):
        figure.savefig(out / f"{name}.png", dpi=150)
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    return [out / f"{name}.png", out / f"{name}.csv"]

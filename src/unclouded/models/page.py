"""A model's card as a page of Markdown: for docs/models and for the model's repository on the Hub."""

from collections.abc import Iterator

from unclouded.models.card import ModelCard, SpreadCalibration, TrainingRecord

LEGEND = (
    "Sharpness is the gradient energy of the results over that of the clear images; cloudy and clear pixels: PSNR "
    "there; bias: mean error of the worst band on clear pixels, over its mean. "
)
REFINES = "The CNP of this model refines its prior; diffusion alone, without it, is shown for completeness. "
COLUMNS = (
    "data", "list", "protocol", "what", "PSNR (95 % interval)", "SSIM", "sharpness", "cloudy", "clear pixels", "bias",
)  # fmt: skip


def page(card: ModelCard) -> str:
    """Title, training, scores with the commands that print them, spread, limits, citations; what the card does not
    know is left out."""
    summary = f"{card.summary.rstrip('.')}. " if card.summary else ""
    return "\n\n".join(
        [
            f"# {card.name}",
            f"{summary}Licence {card.licence}.",
            *_training(card),
            *([table(card)] if card.metrics else []),
            *([_spread(card.calibration)] if card.calibration else []),
            *_commands(card),
            *_list("Limits", card.limits),
            *_list("Cite", card.citation),
        ]
    )


def table(card: ModelCard) -> str:
    """What was measured, a row each."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for m in card.metrics:
        v = m.values
        interval = f" ({v['psnr_low']:.2f}–{v['psnr_high']:.2f})" if "psnr_low" in v else ""
        biases = [value for name, value in v.items() if name.startswith("clear_bias_")]
        bias = f"{100 * max(biases, key=abs):+.1f} %" if biases else "–"
        psnr, ssim = _number(v, "psnr", 2), _number(v, "ssim", 4)
        rest = [_number(v, name, 2) for name in ("gradient_ratio", "cloudy_psnr", "clear_psnr")]
        cells = [m.data, f"{m.split} ({m.n})", m.protocol, m.what, psnr + interval, ssim, *rest, bias]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(values: dict[str, float], name: str, digits: int) -> str:
    return f"{values[name]:.{digits}f}" if name in values else "–"


def _training(card: ModelCard) -> list[str]:
    sampling = f"Sampling default: `{card.sampling.model_dump_json(exclude_none=True)}`."
    if card.training is None:
        return [sampling]
    runs = "\n".join(f"- {_trained(run)}" for run in _ancestry(card.training))
    data = f"Data: {', '.join(card.training.data)}. " if card.training.data else ""
    return [f"Trained by, the last first:\n\n{runs}", f"{data}{sampling}"]


def _ancestry(training: TrainingRecord | None) -> Iterator[TrainingRecord]:
    """The record, that of the model it started from, and so on."""
    while training is not None:
        yield training
        training = training.init


def _trained(training: TrainingRecord) -> str:
    if training.note:
        return training.note
    minutes = {stage: f" ({n:.0f} min)" for stage, n in training.minutes.items()}
    stages = ", ".join(f"{stage} {n}{minutes.get(stage, '')}" for stage, n in training.steps.items())
    at = f" at commit {training.commit[:12]}" if training.commit else ""
    return f"`unclouded train {training.recipe}`{at}: {stages or 'no steps'}"


def _spread(made: SpreadCalibration) -> str:
    def percent(*shares: float) -> str:
        return f"{'/'.join(f'{100 * share:.0f}' for share in shares)} %"

    def rise(name: str) -> str:
        return f"{made.reliability[name][0]:.3f} to {made.reliability[name][-1]:.3f}"

    said = (
        f"Spread of {made.samples} samples, calibrated on {made.images} images of {made.data} (`{made.command}`); each "
        f"half of the images with the factors of the other: ± covers {percent(*made.coverage_held_out)} of the errors "
        f"in the bands (nominally {percent(made.level)}; {percent(*made.coverage_raw)} without factors)"
    )
    if made.coverage_apart:
        cloudy, clear = percent(made.coverage_apart["cloudy"]), percent(made.coverage_apart["clear"])
        said += f", {cloudy} under cloud and {clear} beside it"
    said += "."
    if made.rank_correlation is not None:
        said += f" Its rank correlation with the errors is {made.rank_correlation:.2f}"
        if made.rank_correlation_within is not None:
            said += f", within an image {made.rank_correlation_within:.2f}"
        said += "."
    if made.reliability:
        said += (
            f" Over {len(made.reliability['error'])} bins of equal count by their spread the errors go from "
            f"{rise('error')} (RMS, of [0, 1]), the spread from {rise('spread')}."
        )
    return said


def _commands(card: ModelCard) -> list[str]:
    if not card.metrics:
        return []
    refines = REFINES if card.architecture.get("prediction") == "refinement" else ""
    commands = "\n".join(m.command for m in card.metrics)
    return [f"{LEGEND}{refines}The commands:", f"```console\n{commands}\n```"]


def _list(title: str, items: tuple[str, ...]) -> list[str]:
    return [f"## {title}\n\n" + "\n".join(f"- {item}" for item in items)] if items else []

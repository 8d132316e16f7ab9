"""What identifies a run and says what made a file: the input, the model's weights, the settings, the day."""

import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unclouded import __version__
from unclouded.sampling import Sampling
from unclouded.scenes.names import file_name, is_address, without_secrets

PREFIX = "UNCLOUDED_"


def file_facts(name: str) -> list[Any]:
    """Name, size and time of change of a file; the name alone for what is not a plain file. An address stays the same
    when its signature is renewed."""
    path = Path(name)
    if is_address(name) or not path.is_file():
        return [without_secrets(name)]
    return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]


def model_digest(restorer: Any) -> str:
    """SHA-256 of the model's file; of a model that came from none, of its card and weights. Two models may have one
    name."""
    if sha256 := getattr(restorer, "sha256", ""):
        return str(sha256)
    digest = hashlib.sha256()
    card = getattr(restorer, "card", None)
    digest.update(card.model_dump_json().encode() if card is not None else b"")
    model = getattr(restorer, "model", None)
    for name, tensor in sorted(model.state_dict().items()) if model is not None else []:
        digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def today() -> str:
    """The date of a run, by the day, so that repeated runs give equal files; SOURCE_DATE_EPOCH overrides it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return moment.date().isoformat()


def provenance_tags(
    model: str, digest: str, sampling: Sampling | None, mask: str, source: str, date: str
) -> dict[str, str]:
    """What made a file, for the default metadata domain, where copies by GDAL keep it."""
    drawn = {} if sampling is None else sampling.model_dump(exclude_none=True)
    facts = {
        "VERSION": __version__,
        "MODEL": model,
        "MODEL_SHA256": digest,
        **{name.upper(): str(value) for name, value in drawn.items()},
        "MASK": mask,
        "INPUT": file_name(source),
        "DATE": date,
    }
    return {
        "TIFFTAG_SOFTWARE": f"unclouded {__version__}",
        **{f"{PREFIX}{name}": value for name, value in facts.items()},
    }


def condition_tags(dates: Sequence[str | Path], sar: str | Path | None) -> dict[str, str]:
    """The further images that a model saw, for the same domain; nothing if there were none."""
    tags = {f"{PREFIX}DATES": ", ".join(file_name(str(date)) for date in dates)} if dates else {}
    return tags if sar is None else {**tags, f"{PREFIX}SAR": file_name(str(sar))}

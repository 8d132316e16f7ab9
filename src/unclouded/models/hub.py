"""Models on the Hugging Face Hub (extra `hub`): a repository with one model file and its card as README.md.

`hf://OWNER/NAME[@REVISION]` is such a model's name wherever a model can be named. Downloads are cached by
huggingface_hub, and a cached one works without a network; HF_TOKEN, HF_HOME, HF_ENDPOINT and the like are its own.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unclouded.errors import UncloudedError, UsageError
from unclouded.models.card import ModelCard
from unclouded.models.page import page

if TYPE_CHECKING:
    import huggingface_hub

PREFIX = "hf://"
FILE = "model.safetensors"
ADDRESS = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>.+))?")
TAGS = ["remote-sensing", "cloud-removal", "diffusion"]
OWN_LICENCE = "other"  # what the Hub calls one that it has no name for
NOT_STATED = "not stated"  # how a card's licence begins where the weights' owners named none


def fetch(address: str) -> Path:
    """The local copy of the model at `hf://OWNER/NAME[@REVISION]`. Raises UsageError for another form, UncloudedError
    where the Hub does not have it or cannot be reached."""
    found = ADDRESS.fullmatch(address.removeprefix(PREFIX))
    if found is None:
        raise UsageError(f"{address} does not name a model on the Hub. Write it as hf://OWNER/NAME[@REVISION].")
    hub = _library()
    with _explained(f"The model {address} cannot be fetched", "Check its name, the network, and `hf auth login`"):
        return Path(hub.hf_hub_download(found["repo"], FILE, revision=found["revision"]))


def push(source: Path, card: ModelCard, repo: str, private: bool = False) -> str:
    """Upload a model file, and its card as README.md, to the repository `repo` (OWNER/NAME), which is made where it is
    not there; the address of what was made. `source` is uploaded as it is.

    Raises UncloudedError where the Hub refuses, and for weights without a stated licence, unless the repository is
    `private`: publishing them is for their owners.
    """
    if ADDRESS.fullmatch(repo) is None or "@" in repo:
        raise UsageError(f"{repo} does not name a repository. Write it as OWNER/NAME.")
    if card.licence.startswith(NOT_STATED) and not private:
        raise UncloudedError(
            f"The licence of {card.name} is {card.licence}, so it cannot be published. Give --private, or import the "
            "weights with the --licence that their owners gave them."
        )
    hub = _library()
    api = hub.HfApi(library_name="unclouded")
    with _explained(f"{repo} cannot be written", "Check its name, the network, and `hf auth login`"):
        # a repository that is there stays as visible as it is
        made: Any = api.create_repo(repo, private=private or None, exist_ok=True)
        api.create_commit(
            made.repo_id,
            [hub.CommitOperationAdd(FILE, source), hub.CommitOperationAdd("README.md", readme(card).encode())],
            commit_message=f"{card.name}, uploaded by unclouded",
        )
    return f"{PREFIX}{made.repo_id}"


def readme(card: ModelCard) -> str:
    """The card as the Hub reads it: front matter with licence, tags and scores, and the page for people."""
    hub = _library()
    known = re.fullmatch(r"[A-Za-z]+-[\d.]+", card.licence)  # Apache-2.0
    data = hub.ModelCardData(
        license=card.licence.lower() if known else OWN_LICENCE,
        license_name=None if known else card.licence,
        library_name="unclouded",
        pipeline_tag="image-to-image",
        tags=TAGS,
        model_name=card.name if card.metrics else None,
        eval_results=[*_results(card)] or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{page(card)}\n"


def _results(card: ModelCard) -> "Iterator[huggingface_hub.EvalResult]":
    import huggingface_hub as hub

    for m in card.metrics:
        for metric in ("psnr", "ssim"):
            if m.what == "model" and metric in m.values:
                yield hub.EvalResult(
                    task_type="image-to-image",
                    dataset_type=m.data,
                    dataset_name=m.data,
                    dataset_split=m.split,
                    metric_type=metric,
                    metric_name=f"{metric.upper()} (protocol {m.protocol}, {m.n} images)",
                    metric_value=m.values[metric],
                )


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError("The Hub needs huggingface_hub. Install it with: pip install 'unclouded[hub]'.") from error
    return huggingface_hub


@contextmanager
def _explained(what: str, mend: str) -> Iterator[None]:
    """What the library raises (refused, unreachable, absent, no token) as one sentence."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # its HTTP library's, whichever that is

    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UncloudedError(f"{what}: {reason.strip().rstrip('.')}. {mend}.") from error

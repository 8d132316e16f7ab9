"""A tiny DE model on disk, and a miniature of RICE2 to score it on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from unclouded.datasets import miniature


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Such small networks only lose by sharing their work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_rice(tmp_path_factory) -> Path:
    return miniature.generate("rice2", tmp_path_factory.mktemp("rice2"), pairs=4, size=24)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> Path:
    """A folder with de-msda-rice2.safetensors: a tiny DE over a tiny prior, with weights that do something."""
    from unclouded.models import store
    from unclouded.models.card import ModelCard
    from unclouded.models.de import DE, DEConfig
    from unclouded.models.unet import UNetConfig
    from unclouded.sampling import Sampling
    from unclouded.scenes.bands import BandSet

    torch.manual_seed(0)
    small = {"channels": 32, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1}
    options = {"channels": (8, 8), "blocks": (1, 1)}
    config = DEConfig(
        bands=3, prior="light", prior_options=options, cnp=UNetConfig(6, 3, **small), wa=UNetConfig(9, 3, **small)
    )
    network = DE(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    card = ModelCard(
        name="tiny",
        method="de",
        architecture=config.model_dump(mode="json"),
        bands=BandSet.display("red", "green", "blue"),
        sampling=Sampling(steps=4),
    )
    folder = tmp_path_factory.mktemp("models")
    store.save(folder / "de-msda-rice2.safetensors", network, card)
    return folder

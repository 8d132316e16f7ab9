"""Training that starts from a finished model: what comes over, and what does not."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from unclouded.errors import UsageError
from unclouded.models import store
from unclouded.models.de import DE, DEConfig
from unclouded.models.end_to_end import EndToEnd, EndToEndConfig
from unclouded.models.light import LightConfig
from unclouded.models.unet import UNetConfig
from unclouded.training.fine_tune import start_from
from unclouded.training.recipes import recipe


def _config(bands: int = 3, width: int = 8, gain: bool = False) -> DEConfig:
    network = {"channels": 16, "res_blocks": 1, "multipliers": (1,), "attention": (), "heads": 1, "patch": 2}
    return DEConfig(
        bands=bands,
        prior="light",
        prior_options={"channels": [width, 16], "blocks": [1, 1], "gain": gain},
        cnp=UNetConfig(2 * bands, bands, **network),
        wa=UNetConfig(3 * bands, bands, **network, scale_shift=False),
    )


def _model(config: DEConfig, seed: int) -> DE:
    torch.manual_seed(seed)
    model = DE(config)
    with torch.no_grad():
        for parameter in model.parameters():  # the last layers begin at zero, which would hide what is copied
            parameter.normal_(std=0.1)
    return model


def _finished(folder: Path, config: DEConfig) -> tuple[DE, str]:
    model = _model(config, seed=1)
    path = folder / "finished.safetensors"
    card = store.read_card(store.resolve("base")).model_copy(
        update={"architecture": config.model_dump(), "name": "finished"}
    )
    store.save(path, model, card, dtype=torch.float32)
    return model, str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[DE, str]:
    return _finished(tmp_path_factory.mktemp("finished"), _config())


def test_a_model_of_the_same_shape_starts_as_the_finished_one(finished: tuple[DE, str]) -> None:
    source, path = finished
    model = _model(_config(), seed=2)
    assert start_from(model, path) == ("prior", "cnp", "wa")
    torch.testing.assert_close(model.state_dict(), source.state_dict())


def test_a_prior_of_more_bands_keeps_what_it_knows_of_the_first(finished: tuple[DE, str]) -> None:
    """With a fourth band that the copied channels never see (its weights set to zero), the first three come out as
    from the finished prior."""
    source, path = finished
    model = _model(_config(bands=4), seed=2)
    cnp = {name: tensor.clone() for name, tensor in model.cnp.state_dict().items()}
    assert start_from(model, path) == ("prior",)
    torch.testing.assert_close(model.cnp.state_dict(), cnp)
    prior, theirs = model.prior, source.prior
    assert prior is not None
    assert theirs is not None
    with torch.no_grad():
        prior.stem.weight[:, 12:] = 0
    y = torch.rand(1, 4, 16, 16)
    torch.testing.assert_close(prior.eval()(y)[:, :3], theirs.eval()(y[:, :3]))


def test_a_prior_with_a_gain_starts_as_the_one_without(finished: tuple[DE, str]) -> None:
    source, path = finished
    model = DE(_config(gain=True))
    assert start_from(model, path) == ("prior", "cnp", "wa")
    y = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(model.eval().reference(y), source.eval().reference(y))


def _second_estimator(sar: Literal[0, 2] = 0, gain: bool = False) -> DE:
    cnp = LightConfig(6 + sar, 3, widths=(8, 16), blocks=(1, 1), gain=gain)
    wa = replace(_config().wa, in_channels=9 + sar)  # type: ignore[type-var]
    return DE(_config().model_copy(update={"cnp": cnp, "wa": wa, "prediction": "residual", "sar": sar}))


@pytest.mark.parametrize("sar", [0, 2])
@pytest.mark.parametrize(("of_prior", "of_cnp"), [(False, False), (False, True), (True, True)])
def test_a_light_cnp_begins_as_the_prior(tmp_path: Path, sar: Literal[0, 2], of_prior: bool, of_cnp: bool) -> None:
    source, path = _finished(tmp_path, _config(gain=of_prior))
    model = _second_estimator(sar, of_cnp)
    assert "cnp (its prior)" in start_from(model, path)
    y, x_t, t = torch.rand(2, 3 + sar, 16, 16), torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    assert source.prior is not None
    x_E = source.prior.train()(y[:, :3])  # not clamped
    torch.testing.assert_close(model.predictor(2 * y - 1)(x_t, t).x0 / 2 + 0.5, x_E, atol=1e-5, rtol=1e-4)


def test_a_light_cnp_without_a_gain_cannot_begin_as_a_prior_with_one(tmp_path: Path) -> None:
    _, path = _finished(tmp_path, _config(gain=True))
    assert "cnp (its prior)" not in start_from(_second_estimator(), path)


def test_another_network_is_refused(finished: tuple[DE, str]) -> None:
    wider = EndToEnd(EndToEndConfig(prior="light", prior_options={"channels": [12, 16], "blocks": [1, 1]}))
    with pytest.raises(UsageError, match="No part of"):
        start_from(wider, finished[1])


def test_rgbn_starts_from_base() -> None:
    rgbn = recipe("rgbn")
    assert rgbn.init == "base"
    assert start_from(rgbn.build(), rgbn.init) == ("prior",)

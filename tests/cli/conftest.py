"""`unclouded remove` in this process, with a model that inverts the picture."""

from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor

import unclouded.restore
from restorer_double import RGB, Answer
from unclouded.cli import main
from unclouded.models.card import ModelCard
from unclouded.sampling import Sampling


class Double:
    """A model that inverts the picture, with a card."""

    bands = RGB
    card = ModelCard(name="double", method="double", architecture={}, bands=RGB)
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.sampling: Sampling | None = None
        self.on_batch = lambda: None

    def restore(self, y: Tensor, origins: Sequence[tuple[int, int]], sampling: Sampling | None = None) -> Answer:
        self.sampling = sampling
        self.on_batch()
        return Answer(1 - y)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    model = Double()
    monkeypatch.setattr(unclouded.restore, "load", lambda name, **options: model)
    return model


@pytest.fixture
def remove(double: Double, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `unclouded remove …` in this process -> (exit code, stdout, stderr)."""

    def call(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["remove", *map(str, args)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(stop.value.code or 0), out, err

    return call

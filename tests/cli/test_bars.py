"""The progress bar: on a terminal, and nowhere else."""

import io
import sys

import pytest

from unclouded.cli.bars import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with bar("tiles") as show:
        assert show is not None
        show(3, None)
        show(4, 4)
    assert "tiles" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


def test_a_log_and_one_who_asked_for_quiet_get_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with bar("tiles", quiet) as show:
            assert show is None
        assert not stream.getvalue()

"""The command itself: quick help without torch, and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

import unclouded
from unclouded.cli import VERBS, main
from unclouded.datasets import miniature
from unclouded.errors import UncloudedError, UsageError


def test_help_and_the_package_do_not_import_torch() -> None:
    code = (
        "import sys, unclouded\n"
        "from unclouded.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'numpy', 'rasterio'} & set(sys.modules), 'help must be quick'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert not stop.value.code
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate"], 2, "No such command"),
        (["remove"], 2, "Missing argument"),
        (["train", "nonsense", "--data", ".", "--out", "x"], 2, "no recipe named 'nonsense'"),
        (["train", "base", "--data", "absent", "--out", "{tmp}", "--max-minutes", "0"], 2, "max-minutes"),
        (["train", "base", "--data", "absent", "--out", "{tmp}", "--stage", "last"], 2, "no stage 'last'"),
        (["train", "base", "--data", "absent", "--out", "{tmp}"], 1, "absent"),
        (["models", "info", "nonsense"], 2, "no model named 'nonsense'"),
    ],
)
def test_wrong_use_is_one_message_and_an_exit_code(
    arguments: list[str], code: int, message: str, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([argument.format(tmp=tmp_path) for argument in arguments])
    error = capsys.readouterr().err
    assert stop.value.code == code
    assert message in error
    assert "Traceback" not in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stdout_is_a_sentence(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "unclouded", "models", "list", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == "Error: The system says: No space left on device. Mend that, and run again.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "--input", "--data", "PAIRS"],
        ["paper", "table5", "--models", "PAIRS"],
        ["paper", "table10"],
        ["paper", "fig9", "--data", "PAIRS"],
        ["paper", "fig6", "--model", "base", "--data", "PAIRS"],
        ["train", "own", "--data", "PAIRS"],
        ["data", "simulate", "--landscapes", "1"],
    ],
)
def test_a_file_where_a_folder_is_wanted_is_refused_before_the_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, out = miniature.generate("rice1", tmp_path / "pairs", pairs=2, size=32), tmp_path / "out"
    out.write_text("mine")
    command = [str(pairs) if a == "PAIRS" else a for a in arguments]
    with pytest.raises(SystemExit) as exit_:
        main([*command, str(out)] if command[0] == "data" else [*command, "--out", str(out)])
    assert exit_.value.code == 1
    assert str(out) in capsys.readouterr().err
    assert out.read_text() == "mine"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, click.Abort])
@pytest.mark.parametrize(("rank", "said"), [(None, "Interrupted.\n"), ("0", "Interrupted.\n"), ("1", "")])
def test_ctrl_c_is_130_and_said_once(
    rank: str | None,
    said: str,
    stop: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where several processes train (LOCAL_RANK), which a terminal interrupts together."""

    def interrupted(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr("unclouded.cli.cli.main", interrupted)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 130
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [MemoryError("1 TiB"), RuntimeError("CUDA out of memory. Tried 2 GiB")])
def test_memory_that_runs_out_is_a_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def working(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("unclouded.cli.cli.main", working)
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("Error: Memory ran out.")


def test_a_defect_is_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def working(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("unclouded.cli.cli.main", working)
    with pytest.raises(RuntimeError, match="a defect"):
        main([])


def test_public_names_are_what_they_say() -> None:
    assert set(unclouded.__all__) <= set(dir(unclouded))
    for name in unclouded.__all__:
        assert getattr(unclouded, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unclouded.nothing  # noqa: B018
    assert issubclass(UsageError, UncloudedError)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_an_output_of_few_letters_gets_what_it_can_show(encoding: str) -> None:
    """As on Windows, where the output to a file is in the encoding of the region."""
    command = [sys.executable, "-m", "unclouded", "paper", "--help"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Usage" in done.stdout

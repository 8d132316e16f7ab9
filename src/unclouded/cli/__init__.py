"""The `unclouded` command: one module per verb, imported only when that verb is called.

JSON goes to stdout (with `--json`), everything else to stderr. Exit codes: 0 fine, 1 failed, 2 wrong use, 130
interrupted.
"""

import io
import os
import sys
from importlib import import_module
from typing import Any

import click

from unclouded.errors import UncloudedError, out_of_memory

# OpenMP's threads sleep while they wait for one another, instead of spinning: on a machine whose cores also serve
# others, spinning costs 20 times the work itself (benchmarks/README.md). Read by OpenMP when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# verb -> what the overview says of it; the verb's own module (unclouded.cli.<verb>) is imported when it is called
VERBS = {
    "remove": "Take the clouds out of a scene.",
    "demo": "Generate a cloudy scene, take its clouds out, score the result.",
    "models": "List, describe, import, export and publish models.",
    "data": "Check, list, prepare and simulate training data.",
    "train": "Train a model from a recipe; the same command again resumes.",
    "evaluate": "Score a model on pairs of cloudy and clear images.",
    "paper": "Make the papers' tables and figures from models and data at hand.",
}


class _Verbs(click.Group):
    """A click group whose commands are imported lazily, so that `--help` does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return getattr(import_module(f"unclouded.cli.{cmd_name}"), cmd_name)  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="unclouded")
def cli() -> None:
    """Take the clouds out of optical satellite images by diffusion enhancement."""


def main(args: list[str] | None = None) -> Any:
    """Run the command line; every error that a user can mend becomes one message and an exit code, never a
    traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console or file of few letters gets ? for ε and ×
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.exit(cli.main(args, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UncloudedError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # of stdout, say on a full disk; the files of a verb have sentences of their own
        where = "" if error.filename is None else f" ({error.filename})"
        click.echo(f"Error: The system says: {error.strerror or error}{where}. Mend that, and run again.", err=True)
        _drop_unwritten()
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        if is_first_process():  # Ctrl-C in a terminal reaches them all
            click.echo("Interrupted.", err=True)
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:  # after Abort, which is a RuntimeError
        if not out_of_memory(error):
            raise
        click.echo("Error: Memory ran out. Ask for less at a time, or free memory, and run again.", err=True)
        sys.exit(1)


def is_first_process() -> bool:
    """Whether this is the first of the processes that Fabric starts (which sets LOCAL_RANK in the others), or alone."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _drop_unwritten() -> None:
    """What stdout could not write goes nowhere, or Python would try again at its end, complain and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""What the package imports is what it declares: `pip install unclouded` brings all that it needs, and nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import unclouded

SOURCES = Path(unclouded.__file__).parent
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
# of the standard library, on Unix alone (its documentation's "Availability: Unix")
UNIX_ONLY = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared() -> tuple[set[str], set[str]]:
    """The distributions that are always installed, and those of the extras for users."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = {name: listed for name, listed in project["optional-dependencies"].items() if name != "dev"}

    def names(requirements: list[str]) -> set[str]:
        return {normalised(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}

    return names(project["dependencies"]), set().union(*map(names, extras.values()))


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_every_import_is_declared() -> None:
    always, extra = declared()
    providers = packages_distributions()
    for path in sorted(SOURCES.rglob("*.py")):
        for name in imported(path) - sys.stdlib_module_names - {"unclouded"}:
            distributions = {normalised(found) for found in providers.get(name, [name])}
            assert distributions & (always | extra), f"{path} imports {name}, which pyproject.toml does not declare"


def test_every_declared_package_is_used() -> None:
    always, extra = declared()
    used = {"unclouded", *(name for path in SOURCES.rglob("*.py") for name in re.findall(r"\w+", path.read_text()))}
    for name, distributions in packages_distributions().items():
        if name in used:
            always -= set(map(normalised, distributions))
            extra -= set(map(normalised, distributions))
    absent = {name for name in always | extra if name.replace("-", "_") not in used}  # of what is not installed here
    assert not absent, "pyproject.toml declares what no file names"


def test_no_import_fails_on_windows() -> None:
    for path in sorted(SOURCES.rglob("*.py")):
        assert not imported(path) & UNIX_ONLY, f"{path} imports what Windows does not have"

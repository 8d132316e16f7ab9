"""The rooms of docs/design.md: a module imports from its own layer and those below, never from above or in circles."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import unclouded

SOURCES = Path(unclouded.__file__).parent
# folders and modules of the package, from the ground up
LAYERS = (
    {"errors", "__version__"},
    {"sampling", "text_files", "diffusion"},
    {"scenes"},
    {"models"},
    {"datasets", "many_scenes", "report_html", "scene_options", "shared_tiles"},
    {"strips", "scene_plan", "scene_budget", "scene_report", "finished_rows", "restore_array"},
    {"restore", "whole_scene"},
    {"evaluation"},
    {"training"},
    {"demo", "cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def modules(folder: Path = SOURCES) -> Iterator[tuple[Path, set[str]]]:
    """The files of a folder, and the dotted names of all that each imports, anywhere in it."""
    for path in sorted(folder.rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        yield path, names


def test_nothing_is_imported_from_above() -> None:
    for path, names in modules():
        own = path.relative_to(SOURCES).parts[0].removesuffix(".py")
        if own.startswith("__"):
            continue  # the package's own names, and `python -m unclouded`
        for name in names:
            package, *parts = name.split(".")
            assert package != "unclouded" or LEVEL[parts[0]] <= LEVEL[own], f"{path} imports {name} from above"


def test_no_module_takes_the_place_of_a_public_name() -> None:
    assert not {path.stem for path in SOURCES.iterdir()} & set(unclouded.__all__)
    for name in unclouded.__all__:
        first, again = getattr(unclouded, name), getattr(unclouded, name)
        assert first is again
        assert not isinstance(first, ModuleType)


def test_no_modules_import_each_other() -> None:
    files = dict(modules())
    named = {".".join(("unclouded", *path.relative_to(SOURCES).with_suffix("").parts)): path for path in files}
    graph = {
        name: {n for found in files[path] for n in (found, found.rpartition(".")[0]) if n in named and n != name}
        for name, path in named.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(named)  # raises CycleError, which names them


def test_the_mathematics_knows_no_models() -> None:
    for path, names in modules(SOURCES / "diffusion"):
        ours = {name.split(".")[1] for name in names if name.startswith("unclouded.")}
        assert ours <= {"diffusion", "errors"}, f"{path} imports {ours}"


def test_scenes_know_no_torch() -> None:
    for path, names in modules(SOURCES / "scenes"):
        assert "torch" not in {name.partition(".")[0] for name in names}, f"{path} imports torch"

"""The arrows of docs/architecture.md: who may import whom, and that nobody imports in a circle."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "custom" / "threestudio-pullback" / "pullback"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
EXCEPTIONS = {"adapters._framework": {"host"}, "adapters._threestudio": {"host"}}
CORE_LIMIT = 200
CORE = ("sampling", "constraints", "noise", "fitting", "diffreps", "baselines", "views", "denoiser", "priors", "errors")


def arrows() -> dict[str, set[str]]:
    """The table of the page: a row's folder and what it may import."""
    block = re.search(r"```arrows\n(.*?)```", PAGE, re.S)
    assert block is not None
    rows = (line.split("->") for line in block[1].strip().splitlines())
    return {name.strip(): {part.strip() for part in parts.split(",") if part.strip()} for name, parts in rows}


def modules() -> dict[str, Path]:
    """Every module of the package by its name below `pullback`; the package's own is ''."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of the package that a file imports anywhere, `if TYPE_CHECKING` and functions included."""
    package = ["pullback", *filter(None, name.split("."))]
    package = package if file.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            targets = [(source, alias.name) for alias in node.names]
        else:
            continue
        for source, part in targets:
            if source.partition(".")[0] != "pullback":
                continue
            inner = source.partition(".")[2]
            whole = f"{inner}.{part}" if inner else part
            yield (whole if whole in known else inner) or "sampling"  # `import pullback`: what it offers


MODULES = modules()
GRAPH = {name: {found for found in imports(name, file, MODULES) if found != name} for name, file in MODULES.items()}


def test_every_folder_has_its_row() -> None:
    folders = {name.partition(".")[0] for name in MODULES} - {"", "__main__"}
    assert folders == set(arrows())


def test_the_table_itself_has_no_circle() -> None:
    table = arrows()
    placed: set[str] = set()
    while len(placed) < len(table):
        ready = {name for name, below in table.items() if name not in placed and below <= placed}
        assert ready, f"these import each other: {sorted(set(table) - placed)}"
        placed |= ready


def test_no_import_goes_upward() -> None:
    table = arrows()
    wrong = []
    for name, found in GRAPH.items():
        folder = name.partition(".")[0]
        if folder in ("", "__main__"):
            continue
        allowed = table[folder] | {folder} | EXCEPTIONS.get(name, set())
        wrong += [f"{name} -> {other}" for other in sorted(found) if other.partition(".")[0] not in allowed]
    assert not wrong, "\n".join(wrong)


def test_no_two_files_import_each_other() -> None:
    graph = {name: {other for other in found if other} for name, found in GRAPH.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", [name for name in MODULES if name.partition(".")[0] in CORE])
def test_core_modules_are_short(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) < CORE_LIMIT


def test_the_glossary_names_what_is_in_the_code() -> None:
    page = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    cells = [line.split("|")[2] for line in page.splitlines() if line.startswith("| ")]
    words = {
        word for cell in cells for span in re.findall(r"`([^`]+)`", cell) for word in re.findall(r"[A-Za-z_]\w+", span)
    }
    code = "\n".join(file.read_text(encoding="utf-8") for file in MODULES.values())
    known = set(re.findall(r"\w+", code)) | set(re.findall(r"[\w-]+", code))
    assert len(words) > 30 and sorted(words - known) == []


def test_a_visit_reads_as_the_algorithm_in_twenty_lines() -> None:
    from pullback import Sampler

    assert len(inspect.getsource(Sampler.visit).splitlines()) <= 20

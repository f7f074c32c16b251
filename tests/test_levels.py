"""The levels of the library: a module imports only from packages of lower levels, or from its own; and its length."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imports import ROOT

LIBRARY = ROOT / "src/captioning"
LEVELS = {
    "kernels": 0,
    "system": 0,
    "settings": 1,
    "vision": 1,
    "data": 2,
    "decoders": 3,
    "metrics": 3,
    "search": 4,
    "captioner": 5,
    "engines": 6,
    "evaluation": 6,
    "experiments": 6,
    "training": 6,
    "models": 7,
    "server": 8,
    "cli": 9,
}
MODULES = sorted(LIBRARY.rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and package of each import from the library, those for types included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "captioning"
                else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name.split(".")[1]) for name in names if name.startswith("captioning."))


def package(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0]


def test_the_packages_are_those_of_the_levels() -> None:
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"} == LEVELS.keys()
    assert {path.name for path in LIBRARY.iterdir() if path.is_file()} == {"__init__.py", "py.typed"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_a_module_imports_from_lower_levels_only(path: Path) -> None:
    if path.parent == LIBRARY:  # its names are loaded when they are used: tests/test_python.py
        assert {other for _, other in imported(path)} == {"models", "system"}
        return
    own = package(path)
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports captioning.{other} (level {LEVELS[other]}) "
        f"into captioning.{own} (level {LEVELS[own]})"
        for line, other in imported(path)
        if other != own and LEVELS[other] >= LEVELS[own]
    ]
    assert not upward, "\n".join(upward)


def test_few_arrows_lead_from_package_to_package() -> None:
    arrows = {(package(path), other) for path in MODULES if path.parent != LIBRARY for _, other in imported(path)}
    stages = {("stages", other) for path in (ROOT / "stages").glob("*.py") for _, other in imported(path)}
    assert len({(own, other) for own, other in arrows | stages if own != other}) <= 70


@pytest.mark.parametrize("folder", ["src", "stages"])
def test_no_file_is_longer_than_300_lines(folder: str) -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob("*.py")}
    assert lines
    assert not {path.relative_to(ROOT).as_posix(): count for path, count in lines.items() if count > 300}

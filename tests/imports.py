"""Which files a stage imports, read off the source. `python -m tests.imports` prints the lists for dvc.yaml."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("check", "download", "weights", "vocab", "split", "features", "train", "evaluate")


def _module_file(name: str) -> Path | None:
    base = ROOT / ("src" if name.split(".")[0] == "captioning" else ".") / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements that can run: those under `if TYPE_CHECKING` cannot."""
    for statement in body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        yield statement
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, field, []))
        for handler in getattr(statement, "handlers", []):
            yield from _statements(handler.body)


def _names(path: Path) -> Iterator[str]:
    for statement in _statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def closure(stage: str) -> list[str]:
    """The project's files that `python -m stages.STAGE` imports, sorted, relative to the repository."""
    found: set[Path] = set()
    todo = [f"stages.{stage}"]
    while todo:
        name = todo.pop()
        if name.split(".")[0] not in ("captioning", "stages"):
            continue
        path = _module_file(name)
        if path and path not in found:
            found.add(path)
            todo += _names(path)
        if "." in name:
            todo.append(name.rpartition(".")[0])
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


if __name__ == "__main__":
    for stage in STAGES:
        print(f"{stage}:", *(f"      - {path}" for path in closure(stage)), sep="\n")

"""What a stage imports, read off the source. `python -m tests.imports` prints the lists of folders for dvc.yaml."""

import ast
from collections.abc import Iterator
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = Path("src/captioning")
STAGES = ("check", "download", "weights", "vocab", "split", "objects", "features", "train", "evaluate")


def _module_file(name: str) -> Path | None:
    base = ROOT / ("src" if name.split(".")[0] == "captioning" else ".") / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _module(path: Path) -> str:
    """The name of a package, from its face."""
    return ".".join(path.relative_to(ROOT / "src").parent.parts)


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
            if statement.module == "importlib" and path.is_relative_to(
                ROOT / "src"
            ):  # a table of modules, made from the names of the files beside it
                yield from (f"{_module(path)}.{file.stem}" for file in _modules(path.parent) if file != path)


def closure(stage: str) -> list[str]:
    """The project's files that `python -m stages STAGE` imports, sorted, relative to the repository."""
    found: set[Path] = set()
    todo = [f"stages.{stage}", "stages.__main__"]
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


def listed(stage: str) -> list[str]:
    """What dvc.yaml lists for a stage: the folders of the files that it imports, and single files.

    A folder stands for all below it. One that has folders inside is listed only where the stage uses each of them, and
    each file beside them; else those files are listed singly. Files that hold no code of their own are left out.
    `check` takes seconds, and no stage follows it, since its output never changes: it lists whole packages.
    """
    files = [path for path in closure(stage) if not _is_bare(ROOT / path)]
    place = _package if stage == "check" else partial(_place, files=files)
    return sorted({place(Path(path)) for path in files})


def _package(path: Path) -> str:
    """The folder in src/captioning that has a file; another file itself."""
    return Path(*path.parts[: len(LIBRARY.parts) + 1]).as_posix() if path.is_relative_to(LIBRARY) else path.as_posix()


def _place(path: Path, files: list[str]) -> str:
    if not path.is_relative_to(LIBRARY):
        return path.as_posix()
    covering = [folder for folder in path.parents if folder != LIBRARY and folder.is_relative_to(LIBRARY)]
    whole = [folder for folder in covering if _is_whole(folder, files)]
    return (whole[-1] if whole else path).as_posix()


def _is_whole(folder: Path, files: list[str]) -> bool:
    parts = _folders(folder)
    beside = {path.relative_to(ROOT).as_posix() for path in _modules(ROOT / folder)} if len(parts) > 1 else set()
    return all(_used(part, files) for part in parts) and beside <= set(files)


def _folders(folder: Path) -> list[Path]:
    """The folder and all packages below it that have modules of their own."""
    faces = (ROOT / folder).rglob("__init__.py")
    return [face.parent.relative_to(ROOT) for face in faces if _modules(face.parent)]


def _modules(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if not _is_bare(path)]


def _used(folder: Path, files: list[str]) -> bool:
    return any(Path(path).parent == folder for path in files)


def _is_bare(path: Path) -> bool:
    """Without code that a stage depends on.

    That is an `__init__.py` without a statement; the library's own, whose names are loaded by users and by no stage;
    and a `__main__.py` that imports a function and calls it.
    """
    if path.name not in ("__init__.py", "__main__.py"):
        return False
    if path.parent == ROOT / LIBRARY:
        return True
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if path.name == "__init__.py":
        return all(isinstance(item, ast.Expr) for item in body)
    return [type(item) for item in body] == [ast.Expr, ast.ImportFrom, ast.If] and _is_call(body[-1])


def _is_call(guard: ast.stmt) -> bool:
    """`if …: function()`."""
    if not isinstance(guard, ast.If) or guard.orelse or len(guard.body) != 1:
        return False
    [statement] = guard.body
    return isinstance(statement, ast.Expr) and ast.unparse(statement).endswith("()")


if __name__ == "__main__":
    for stage in STAGES:
        print(f"{stage}:", *(f"      - {path}" for path in listed(stage)), sep="\n")

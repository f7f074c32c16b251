"""Where commands read and write: the project around the working folder, and the outputs that options name."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from captioning.experiments.commands import project
from captioning.system.errors import UserError

_Options = ParamSpec("_Options")
_Result = TypeVar("_Result")


def in_project(command: Callable[_Options, _Result]) -> Callable[_Options, _Result]:
    """A command that runs in the project's folder when it is started in one of its subfolders.

    The paths that it is given are those of the folder in which it was started.
    """

    @functools.wraps(command)
    def run(*arguments: _Options.args, **options: _Options.kwargs) -> _Result:
        folder = project()
        if folder == Path.cwd():
            return command(*arguments, **options)
        for name, value in options.items():
            if isinstance(value, Path):
                options[name] = value.absolute()
            elif isinstance(value, list):
                options[name] = [one.absolute() if isinstance(one, Path) else one for one in value]
        with contextlib.chdir(folder):
            return command(*arguments, **options)

    return run


def check_file(option: str, path: Path) -> None:
    """Raise UserError if no file can be written at the path that an option names: ahead of the work, not after it."""
    with written(option, path):
        if path.is_dir():
            raise UserError(f"{option} {path}: this is a folder; name a file in it")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir():
            raise UserError(f"{option} {path}: {parent} is a file, not a folder; name another")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"{option} {path}: the folder {parent} is not writable; name another")


@contextlib.contextmanager
def written(option: str, path: Path) -> Iterator[None]:
    """Raise UserError, with the option, for what the system has against writing the path that it names."""
    try:
        yield
    except OSError as fault:
        place = "" if fault.filename in (None, str(path)) else f"{fault.filename}: "
        raise UserError(f"{option} {path}: cannot be written ({place}{fault.strerror}); name another place") from None


def sheet_names(option: str, folder: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """Make the folder that an option names, and say where in it the sheet of each image is drawn.

    Raises UserError when it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"{option} {folder}: cannot be created ({fault.strerror}); name another") from None
    from captioning.evaluation.attention_sheets import file_names

    return file_names(folder, files, option.removeprefix("--"))

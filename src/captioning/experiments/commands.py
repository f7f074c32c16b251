"""The commands `git` and `dvc`, as a person types them, in the working folder."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from captioning.system.errors import UserError

_NO_DVC = "`dvc` is not on the PATH: source .venv/bin/activate"
_LIMIT_S = 300.0  # for `dvc exp show`, which reads every experiment once


def git(*arguments: str) -> str:
    """What `git` prints. Raises UserError, with its message, when it fails."""
    return _run("git", arguments, "git is not installed")


def dvc(*arguments: str) -> str:
    """What `dvc` prints. Raises UserError, with its message, when it fails."""
    return _run("dvc", arguments, _NO_DVC)


def exp_show(*options: str) -> list[dict[str, Any]]:
    """The document of `dvc exp show --json`: the workspace, then each commit with its experiments.

    Raises UserError when it takes too long: it opens the folders of running experiments, and hangs if one ends then.
    """
    arguments = ("exp", "show", "--json", *options)
    document: list[dict[str, Any]] = json.loads(_run("dvc", arguments, _NO_DVC, limit_s=_LIMIT_S))
    return document


def repository() -> Path:
    """The DVC repository of the working folder. Raises UserError where there is none, or no commit in it."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if root is None:
        raise UserError("this folder is not in a DVC repository; run in the project's folder")
    if commit("HEAD") is None:
        raise UserError("experiments start from a commit, and there is none here: `git init`, `git commit`")
    return root


def project(start: Path | None = None) -> Path:
    """The project's folder: the nearest one with a dvc.yaml, from `start` or the working folder upwards.

    The project may be a folder of a larger git repository, or of a larger DVC repository. Where no folder has a
    dvc.yaml it is the DVC repository, and outside of one the folder itself.
    """
    here = (start or Path.cwd()).resolve()
    folders = [here]
    for folder in here.parents:
        if (folders[-1] / ".dvc").is_dir():
            break
        folders.append(folder)
    root = folders[-1] if (folders[-1] / ".dvc").is_dir() else here
    return next((folder for folder in folders if (folder / "dvc.yaml").is_file()), root)


def commit(name: str) -> str | None:
    """The commit that git knows by a name such as `HEAD` or `1234567^1`; None: there is none, or no longer."""
    command = ("git", "rev-parse", "--verify", "--quiet", name)
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def _run(program: str, arguments: tuple[str, ...], if_missing: str, limit_s: float | None = None) -> str:
    """Output goes to files: workers that a command leaves behind would keep a pipe open."""
    if shutil.which(program) is None:
        raise UserError(if_missing)
    command_line = " ".join((program, *arguments))
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            completed = subprocess.run(
                (program, *arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=errors, timeout=limit_s
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"`{command_line}` did not end in {limit_s:g} s, and was stopped; try again") from None
        printed, message = (_content(stream) for stream in (output, errors))
    if completed.returncode:
        raise UserError(f"`{command_line}` failed: {' '.join((message or printed).split())}")
    return printed


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")

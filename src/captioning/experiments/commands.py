"""The commands `git` and `dvc`, as a person types them, in the working folder."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

from captioning.system.errors import UserError


def git(*arguments: str) -> str:
    """What `git` prints. Raises UserError, with its message, when it fails."""
    return _run("git", arguments, "git is not installed")


def dvc(*arguments: str) -> str:
    """What `dvc` prints. Raises UserError, with its message, when it fails."""
    return _run("dvc", arguments, "`dvc` is not on the PATH: source .venv/bin/activate")


def shown(*options: str) -> list[dict[str, Any]]:
    """The document of `dvc exp show --json`: the workspace, then each commit with its experiments."""
    document: list[dict[str, Any]] = json.loads(dvc("exp", "show", "--json", *options))
    return document


def repository() -> Path:
    """The DVC repository of the working folder. Raises UserError where there is none, or no commit in it."""
    here = Path.cwd()
    root = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), None)
    if root is None:
        raise UserError("this folder is not in a DVC repository; run in the project's folder")
    if not _succeeds("git", "rev-parse", "--verify", "--quiet", "HEAD"):
        raise UserError("experiments start from a commit, and there is none here: `git init`, `git commit`")
    return root


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _run(program: str, arguments: tuple[str, ...], absent: str) -> str:
    """Output goes to files: workers that a command leaves behind would keep a pipe open."""
    if shutil.which(program) is None:
        raise UserError(absent)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        done = subprocess.run((program, *arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        printed, said = (_content(stream) for stream in (output, errors))
    if done.returncode:
        text = " ".join((said or printed).split())
        raise UserError(f"`{program} {' '.join(arguments)}` failed: {text}")
    return printed


def _content(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")

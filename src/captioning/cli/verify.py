"""`captioning verify`: a random piece of a finished run is made again and compared."""

import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from captioning.cli.places import in_project
from captioning.experiments.commands import dvc, git, repository
from captioning.experiments.revisions import WORKSPACE, resolve
from captioning.system.errors import UserError

_Revision = Annotated[str, typer.Argument(help="What git or DVC names; without it, the files as they lie here.")]
_Images = Annotated[int, typer.Option(min=1, max=10_000, help="Images whose features are made again.")]
_Seed = Annotated[int | None, typer.Option(min=0, help="Draws them; printed, so that the same ones can be drawn.")]
_PARTS = (
    "check",
    "download",
    "weights",
    "split",
    "features",
    "train",
    "evaluate",
)  # what is brought back


@in_project
def verify(revision: _Revision = WORKSPACE, *, images: _Images = 20, seed: _Seed = None) -> None:
    """Make features of random images and a batch of captions again, and compare them with a finished run.

    The code of the revision does it, on this machine, which is printed. The exit status is 1 where something differs:
    the machine, the libraries or the data are not those of the run.
    """
    drawn = secrets.randbelow(10**6) if seed is None else seed
    root = repository()
    [found] = resolve([revision])
    with _folder(found.sha, root) as folder:
        if not (folder / "stages/verify.py").is_file():
            raise UserError(f"{revision}: this commit has no stages/verify.py; name a later one")
        print(f"{revision}: images and captions drawn with --seed {drawn}", flush=True)
        command = (sys.executable, "-m", "stages", "verify", str(images), str(drawn))
        done = subprocess.run(command, cwd=folder)
    raise typer.Exit(done.returncode)


@contextmanager
def _folder(sha: str, root: Path) -> Iterator[Path]:
    """The project as it was at a commit, with the results that DVC's cache has; the workspace is itself."""
    if sha == WORKSPACE:
        yield root
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "revision"
        git("worktree", "add", "--quiet", "--detach", str(folder), sha)
        try:
            _bring_back(folder, root)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            git("worktree", "prune")


def _bring_back(folder: Path, root: Path) -> None:
    """Check the revision's results out of the cache of this repository."""
    cache = dvc("cache", "dir").strip()
    (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {root / cache}\n", encoding="utf-8")
    dvc("--cd", str(folder), "checkout", "--quiet", *_PARTS)

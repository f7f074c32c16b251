"""`captioning verify`: a random piece of a finished run is made again and compared."""

import secrets
import subprocess
import sys
from typing import Annotated

import typer

from captioning.cli.places import in_project
from captioning.experiments.commands import repository
from captioning.experiments.revisions import WORKSPACE, resolve
from captioning.experiments.worktree import checked_out
from captioning.system.errors import UserError

_Revision = Annotated[str, typer.Argument(help="What git or DVC names; without it, the workspace.")]
_Images = Annotated[int, typer.Option(min=1, max=10_000, help="Images whose features are made again.")]
_Epochs = Annotated[
    int, typer.Option(min=0, help="Epochs that are trained again, from the start; they take their time.")
]
_Seed = Annotated[int | None, typer.Option(min=0, help="Draws them; printed, so that the same ones can be drawn.")]
_TRAINS = "def _differing_epochs("  # in code that can


@in_project
def verify(revision: _Revision = WORKSPACE, *, images: _Images = 20, epochs: _Epochs = 0, seed: _Seed = None) -> None:
    """Make features of random images, a batch of captions and epochs again, and compare them with a finished run.

    The code of the revision does it, on this machine, which is printed. The exit status is 1 where something differs:
    the machine, the libraries or the data are not those of the run.
    """
    chosen_seed = secrets.randbelow(10**6) if seed is None else seed
    root = repository()
    [resolved] = resolve([revision])
    with checked_out(resolved, root) as folder:
        if not (folder / "stages/verify.py").is_file():
            raise UserError(f"{revision}: this commit has no stages/verify.py; name a later one")
        trains = _TRAINS in (folder / "stages/verify.py").read_text(encoding="utf-8")
        if epochs and not trains:
            raise UserError(f"--epochs {epochs}: the code of {revision} does not train again; name a later commit")
        print(f"{revision}: images and captions drawn with --seed {chosen_seed}", flush=True)
        numbers = map(str, (images, chosen_seed, *[epochs] * trains))
        completed = subprocess.run([sys.executable, "-m", "stages", "verify", *numbers], cwd=folder)
    raise typer.Exit(completed.returncode)

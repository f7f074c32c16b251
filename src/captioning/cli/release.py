"""`captioning release`: make a model for people of a finished run."""

import contextlib
import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from captioning.cli.places import in_project, written
from captioning.experiments.commands import repository
from captioning.experiments.revisions import WORKSPACE, Revision, resolve
from captioning.experiments.worktree import checked_out
from captioning.models import shipped
from captioning.system import compute
from captioning.system.errors import UserError
from captioning.system.files import move

_Name = Annotated[str, typer.Argument(help="Of the release: small letters, digits and `-`.")]
_Revision = Annotated[str, typer.Argument(help="A commit or experiment that ran; without it, the workspace.")]
_Out = Annotated[Path | None, typer.Option(help="The folder to write.", show_default="release/NAME")]


@in_project
def release(name: _Name, revision: _Revision = WORKSPACE, *, out: _Out = None) -> None:
    """Make a model for people of a finished run: small, with confidence, scores and a model card.

    Matrices are stored in half precision. The validation and test images are captioned as `captioning predict` does
    it; that takes minutes. Confidence is calibrated on validation, and everything is measured on test.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", name):
        raise UserError(f"{name}: a release is named with small letters, digits and `-`")
    folder = (out or Path("release") / name).absolute()
    if folder.exists() and not shipped.is_model(folder):
        raise UserError(f"--out {folder}: exists already, and is not a model; name another folder")
    root = repository()
    [resolved] = resolve([revision])
    with checked_out(resolved, root) as checkout, contextlib.chdir(checkout):
        _release(name, _title(resolved), folder)


def _title(revision: Revision) -> str:
    """The run as the card names it."""
    commit = revision.commit
    name = "the files of the workspace" if revision.sha == WORKSPACE else revision.name
    return f"{name}, commit {commit[0]} of {commit[1]}" if commit else name


def _release(name: str, title: str, folder: Path) -> None:
    compute.pin(portable=True, threads=shipped.THREADS)
    from captioning.models import model_card
    from captioning.models.release import release

    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / name
        card, measured = release(staged, name, title)
        model_card.write(staged, card, measured)
        with written("--out", folder):
            move(staged, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    reliability, change = measured.reliability, measured.scores["cider"][0] - measured.full["cider"]
    print(
        f"{folder}: {size / 1e6:.1f} MB; half precision changes {measured.changed:.1%} of captions, CIDEr {change:+.4f}"
    )
    print(
        f"test: BLEU-4 {measured.scores['bleu_4'][0]:.3f}, CIDEr {measured.scores['cider'][0]:.3f}; "
        f"confidence: calibration error {reliability.error:.3f}, area under the ROC curve {reliability.auc:.3f}"
    )

"""A revision in a folder of its own, with the results that DVC's cache has."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from captioning.experiments import coherence
from captioning.experiments.commands import dvc, git
from captioning.experiments.revisions import LOCK, WORKSPACE, Revision
from captioning.system.errors import UserError


@contextmanager
def checked_out(revision: Revision, root: Path) -> Iterator[Path]:
    """The project as it was at a commit, in a temporary folder; the workspace is `root` itself.

    Raises UserError when the cache lacks results, or dvc.lock does not say which there are.
    """
    if revision.sha == WORKSPACE:
        yield root
        return
    stages = coherence.stages(revision)
    if not stages:
        raise UserError(f"{revision.name}: no stage in its {LOCK}, so that no results are known; name another revision")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "revision"
        git("worktree", "add", "--quiet", "--detach", str(folder), revision.sha)
        try:
            _restore(folder, root, stages)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            git("worktree", "prune")


def _restore(folder: Path, root: Path, stages: Iterable[str]) -> None:
    """Check the results of these stages out of the cache of this repository."""
    cache = dvc("cache", "dir").strip()
    (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {root / cache}\n", encoding="utf-8")
    dvc("--cd", str(folder), "checkout", "--quiet", "--", *stages)

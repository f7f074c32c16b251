"""A revision in a folder of its own, with the results that DVC's cache has."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from captioning.experiments.commands import dvc, git
from captioning.experiments.revisions import WORKSPACE


@contextmanager
def checked_out(sha: str, root: Path) -> Iterator[Path]:
    """The project as it was at a commit, in a temporary folder; the workspace is `root` itself.

    Raises UserError when the cache lacks results.
    """
    if sha == WORKSPACE:
        yield root
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "revision"
        git("worktree", "add", "--quiet", "--detach", str(folder), sha)
        try:
            _restore(folder, root)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            git("worktree", "prune")


def _restore(folder: Path, root: Path) -> None:
    """Check the revision's results out of the cache of this repository."""
    cache = dvc("cache", "dir").strip()
    (folder / ".dvc/config.local").write_text(f"[cache]\n    dir = {root / cache}\n", encoding="utf-8")
    stages = YAML(typ="safe").load(folder / "dvc.lock")["stages"]  # those of that time
    dvc("--cd", str(folder), "checkout", "--quiet", *stages)

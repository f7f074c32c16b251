"""Models by revision: what an experiment, a tag or another repository released, straight from git and DVC.

They are kept in the user's cache, under the digest of their model.json, which has the digests of the other files.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from captioning.captioner import cards
from captioning.experiments.commands import project
from captioning.system.errors import UserError
from captioning.system.files import atomic, digest, user_cache, write_bytes

if TYPE_CHECKING:
    from captioning.experiments.revisions import Revision


class Model(NamedTuple):
    """A model folder, and what a person calls it: its path, or its revision with the commit."""

    folder: Path
    title: str


def models(names: Sequence[str] | None, repo: str | None, default: Path) -> list[Model]:
    """The models that these names mean; without names that of HEAD in `repo`, or else `default`.

    A name is a folder or, where there is no such folder or `repo` (a path or an address) is given, a revision: a
    commit, a branch, a tag such as `model@v1.0.0`, or an experiment. Its model is looked for in the local cache
    and in the repository's DVC remote; nothing in the workspace is touched.
    default: where the pipeline puts a model, relative to a repository's root.
    Raises UserError when a name is neither, or a model is not there as it was recorded.
    """
    if repo is None:
        return [_folder(name, default) for name in names or [str(default)]]
    return [_release(name, repo, default) for name in names or ["HEAD"]]


def _folder(name: str, default: Path) -> Model:
    if Path(name).exists():
        return Model(Path(name), name)
    if Path(name) == default:
        return Model(project() / name, name)
    return _release(name, None, default)


def _release(name: str, repo: str | None, path: Path) -> Model:
    """A revision's model, in its folder in the cache; it is brought there first, if it has to be."""
    from captioning.experiments import coherence
    from captioning.experiments.revisions import resolve

    try:
        [revision] = resolve([name], repo, remotes=True)
    except UserError as fault:
        raise UserError(f"--model {name}: {'' if repo else 'no such folder, and no revision: '}{fault}") from None
    coherence.check(revision, [f"{path.as_posix()}/{cards.NAME}"])
    card = revision.read(f"{path.as_posix()}/{cards.NAME}")
    files = cards.parse(_json(card), f"{name}: {path.as_posix()}/{cards.NAME}").files
    folder = user_cache("models") / hashlib.sha256(card).hexdigest()
    if not _whole(folder, files):
        with atomic(folder) as temporary:
            temporary.mkdir()
            for file in files:
                write_bytes(temporary / file, revision.read(f"{path.as_posix()}/{file}"))
            write_bytes(temporary / cards.NAME, card)
    return Model(folder, f"{name}{_commit(revision)}{f' in {repo}' if repo else ''}")


def _commit(revision: "Revision") -> str:
    return ", commit {} of {}".format(*revision.commit) if revision.commit else ""


def _json(card: bytes) -> Any:
    """The card's document; None where it is none, which `cards.parse` refuses."""
    try:
        return json.loads(card)
    except (ValueError, RecursionError):
        return None


def _whole(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether a folder of the cache still has what its card says."""
    paths = [folder / file for file in files]
    return (folder / cards.NAME).is_file() and all(
        path.is_file() and digest(path) == files[path.name] for path in paths
    )

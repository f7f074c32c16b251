"""What an experiment left behind, read through DVC from any revision; nothing in the workspace is touched.

A revision is what git or DVC names: a commit, branch or tag, the name of an experiment, or the workspace.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, BinaryIO

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import DVCFileSystem
from dvc.repo import Repo
from dvc.scm import NoSCM, NoSCMError, RevError, SCMError, resolve_rev
from dvc_data.index import DataIndexDirError

from captioning.experiments import suites
from captioning.system.errors import UserError, reason

WORKSPACE = "workspace"  # the files as they lie there, committed or not; DVC's own word for it
_OTHER = ("run in the project's folder", "name another")
_NO_REMOTE = {"core": {"remote": ""}}  # what is not in the local cache is reported, not downloaded


@dataclass(frozen=True)
class Revision:
    """One experiment. `name` is what it was asked for by, `sha` its commit, or the word `workspace`.

    repo: address or path of its repository, if that is not the one of the working folder. remotes: whether they are
    asked for what is not in the local cache.
    """

    name: str
    sha: str
    repo: str | None = None
    remotes: bool = False

    @property
    def short(self) -> str:
        """Seven digits of the commit, or `workspace`."""
        return self.sha if self.sha == WORKSPACE else self.sha[:7]

    @cached_property
    def params(self) -> dict[str, Any]:
        """Its params.yaml, nested as there, `auto` undecided. Raises UserError when that cannot be read."""
        return self._shown(self._files.repo.params.show())

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """All its metrics, those of each stage side by side, nested as in their files.

        Raises UserError when one of the files cannot be read.
        """
        return self._shown(self._files.repo.metrics.show())

    def read(self, path: str) -> bytes:
        """The bytes of a file that git or DVC tracks, out of git, the local cache, or a remote if they are asked.

        path: relative to the repository's root, with `/`.
        Raises UserError when the revision has no such file, has it where it is not looked for or cannot be reached, or
        its bytes are not those that the revision recorded.
        """
        with self._reached(path):
            data: bytes = self._files.read_bytes(f"/{path}")
            recorded = self._files.info(f"/{path}").get("md5")
        if recorded and hashlib.md5(data, usedforsecurity=False).hexdigest() != recorded:
            raise UserError(f"{self.name}: {path} is damaged in {self._places}; {self._fetch()}")
        return data

    @cached_property
    def commit(self) -> tuple[str, str] | None:
        """Its first seven digits and its day (UTC), as 2026-11-28; of the workspace, the last; None without git."""
        scm = self._files.repo.scm
        if isinstance(scm, NoSCM):
            return None
        commit = scm.resolve_commit("HEAD" if self.sha == WORKSPACE else self.sha)
        return commit.hexsha[:7], datetime.fromtimestamp(commit.commit_time, UTC).date().isoformat()

    def names(self, folder: str) -> list[str]:
        """The files under a folder, at any depth, as `read` takes them, sorted; none where there is no such folder."""
        if not self._files.isdir(f"/{folder}"):
            return []
        return sorted(path.removeprefix("/") for path in self._files.find(f"/{folder}"))

    def open(self, path: str) -> BinaryIO:
        """A file as `read` finds it, to be read in parts; its bytes are not compared with what was recorded.

        Raises UserError when the revision has no such file, or has it in a remote only.
        """
        with self._reached(path):
            stream: BinaryIO = self._files.open(f"/{path}", "rb")
        return stream

    @contextmanager
    def _reached(self, path: str) -> Iterator[None]:
        """Say in words why a file cannot be read."""
        try:
            yield
        except DataIndexDirError as fault:  # what the folder has could not be learnt
            why = reason(fault.__cause__ or fault, first_line=True)
            raise UserError(
                f"{self.name}: {path} is not in the local cache, and the folder that has it could not be fetched "
                f"({why}); see to the remote's address and your access (`dvc remote list`), or whether it was pushed"
            ) from None
        except (OSError, DvcException):
            raise UserError(f"{self.name}: {self._absent(path)}") from None

    def _absent(self, path: str) -> str:
        """Why a file cannot be read: it is recorded and its bytes are elsewhere, or it is not recorded."""
        if self._files.isdir(f"/{path}"):
            return f"{path} is a folder; name a file in it"
        if self._files.exists(f"/{path}"):
            return f"{path} is not in {self._places}; {self._fetch()}"
        return f"no {path} in this revision; run its pipeline (`dvc repro`), or name another"

    @property
    def _places(self) -> str:
        return "the local cache or the remote" if self.remotes else "the local cache"

    def _fetch(self) -> str:
        if self.remotes:
            return "send it again with `dvc push` (an experiment: `dvc exp push`) from where it was made"
        if self.sha == WORKSPACE:
            return "fetch it with `dvc pull`"
        return f"fetch it with `dvc exp pull origin {self.name}` if it is an experiment, else `dvc fetch --all-commits`"

    @cached_property
    def _files(self) -> DVCFileSystem:
        rev, config = None if self.sha == WORKSPACE else self.sha, None if self.remotes else _NO_REMOTE
        return DVCFileSystem(repo=self.repo, rev=rev, config=config)

    def _shown(self, shown: dict[str, Any]) -> dict[str, Any]:
        """The values of all files that DVC shows of this one revision."""
        merged: dict[str, Any] = {}
        for files in shown.values():
            for path, content in files.get("data", {}).items():
                if "error" in content:
                    raise UserError(f"{self.name}: {path} cannot be read ({content['error']}); run its pipeline again")
                merged |= content["data"]
        return merged


def resolve(names: Sequence[str], repo: str | None = None, *, remotes: bool = False) -> list[Revision]:
    """The revisions that these names mean, in order; repo and remotes are those of `Revision`.

    Raises UserError for a name that means nothing or several experiments, and outside a DVC repository.
    """
    try:
        opened = Repo.open(repo) if repo else Repo()
    except NotDvcRepoError:
        raise UserError(f"{repo or 'this folder'} is not in a DVC repository; {_OTHER[bool(repo)]}") from None
    except (SCMError, DvcException) as fault:
        raise UserError(f"{repo}: no git repository can be read there ({reason(fault)}); name another") from None
    with opened:
        return [Revision(name, _sha(opened, name, local=repo is None), repo, remotes) for name in names]


def _sha(repo: Repo, name: str, *, local: bool) -> str:
    if name == WORKSPACE:
        return WORKSPACE
    try:
        return str(resolve_rev(repo.scm, name))
    except NoSCMError:
        raise UserError(f"{name}: this folder has no git history; only `{WORKSPACE}` can be read") from None
    except RevError as fault:
        if reason(fault).startswith("ambiguous"):
            raise UserError(f"{name}: several experiments have this name; give a commit (`dvc exp list -A`)") from None
        raise UserError(f"{name}: {_unknown(name, local)}") from None


def _unknown(name: str, local: bool) -> str:
    """What to do about a name that no revision has; in the working folder's repository it may be a suite's run."""
    suite = suites.owner(name) if local else None
    if suite:
        return f"this run of the suite {suite} has not been run at this commit; `captioning suite run {suite}` runs it"
    return "no commit, branch, tag or experiment has this name (`git log`, `dvc exp list -A`)"

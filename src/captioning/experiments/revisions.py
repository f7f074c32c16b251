"""What an experiment left behind, read through DVC from any revision; nothing in the workspace is touched.

A revision is what git or DVC names: a commit, branch or tag, the name of an experiment, or the workspace. Its project
may be a folder of a larger git repository: paths are relative to the project's folder.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import DVCFileSystem, GitFileSystem
from dvc.repo import Repo
from dvc.scm import NoSCM, NoSCMError, RevError, SCMError, resolve_rev
from dvc_data.index import DataIndexDirError
from ruamel.yaml.error import YAMLError

from captioning.experiments import suites
from captioning.experiments.commands import project
from captioning.experiments.unread import FAULTS, RESTORE, cause, explained
from captioning.settings.yaml_lines import loads
from captioning.system.errors import UserError, reason

WORKSPACE = "workspace"  # the files in the working folder, committed or not; DVC's own word for it
PIPELINE, LOCK = "dvc.yaml", "dvc.lock"
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
        return self.mapping("params.yaml")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """All its metrics, those of each stage side by side, nested as in their files.

        Raises UserError when one of the files cannot be read.
        """
        return self._merged(self._indexed.metrics.show())

    def read(self, path: str) -> bytes:
        """The bytes of a file that git or DVC tracks, out of git, the local cache, or a remote if they are asked.

        path: relative to the project's folder, with `/`.
        Raises UserError when the revision has no such file, has it where it is not looked for or cannot be reached, or
        its bytes are not those that the revision recorded.
        """
        with self._explained(path):
            data: bytes = self._files.read_bytes(self._place(path))
            info = self._files.info(self._place(path))
        recorded = info.get("md5") or info.get("dvc_info", {}).get("md5")
        if recorded and md5(data) != recorded:
            raise UserError(f"{self.name}: {path} {self._damaged()}")
        return data

    def tracked(self, path: str) -> bytes | None:
        """The bytes of a file that git tracks (in the workspace, as it is on disk), quickly: DVC's index is not read.

        None where there is no such file. Raises UserError when it is a folder.
        """
        try:
            with self.repository.fs.open(self.place(path), "rb") as stream:
                data: bytes = stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            raise UserError(f"{self.name}: {path} is a folder, and not a file; {RESTORE}") from None
        return data

    def mapping(self, path: str) -> dict[str, Any]:
        """The values of a YAML file that git tracks. Raises UserError when it is missing, or no mapping."""
        text = self.tracked(path)
        if text is None:
            raise UserError(f"{self.name}: {self._missing(path)}")
        try:
            values = loads(text)
        except (YAMLError, UnicodeDecodeError) as fault:
            raise UserError(f"{self.name}: {path} is not YAML ({reason(fault, first_line=True)}); {RESTORE}") from None
        if not isinstance(values, dict):
            raise UserError(f"{self.name}: {path} has no `key: value` lines; {RESTORE}")
        return values

    def place(self, path: str) -> str:
        """Where a file that git tracks is in the file system of `repository`."""
        files = self.repository.fs
        joined: str = files.join(self.repository.root_dir, *files.parts(self._base), *path.split("/"))
        return joined

    @cached_property
    def repository(self) -> Repo:
        """DVC's view of this revision, whose root may be a folder of a larger git repository.

        Raises UserError when its .dvc/config or .dvcignore cannot be read.
        """
        with explained(self.name):
            repo = self._opened()
            repo.dvcignore  # noqa: B018 (it is read when it is first used)
            return repo

    @cached_property
    def _indexed(self) -> Repo:
        """`repository`, after DVC has made sense of its pipeline. Raises UserError, with the file, when it cannot."""
        for path in (PIPELINE, LOCK):
            if self.tracked(path) is not None:
                self.mapping(path)
        with explained(self.name):
            self.repository.index.data  # noqa: B018 (what DVC's file system reads later)
        return self.repository

    def _opened(self) -> Repo:
        config = None if self.remotes else _NO_REMOTE
        if self.sha == WORKSPACE:
            return Repo.open(self.repo, uninitialized=True, config=config)
        with Repo.open(self.repo, uninitialized=True) as workspace:
            folder, scm, remote = _within(workspace), workspace.scm, _default_remote(workspace)
        if not folder:
            return Repo.open(self.repo, uninitialized=True, rev=self.sha, config=config)
        files = GitFileSystem(scm=scm, rev=self.sha)
        return Repo(f"/{folder}", fs=files, scm=scm, uninitialized=True, config=config or remote)

    @cached_property
    def _base(self) -> str:
        """The project's folder in its DVC repository; empty where they are the same."""
        here = Path(self.repo or ".")
        if not here.is_dir():  # an address
            return ""
        folder = project(here)
        root = next((parent for parent in (folder, *folder.parents) if (parent / ".dvc").is_dir()), folder)
        return folder.relative_to(root).as_posix().removeprefix(".")

    @cached_property
    def commit(self) -> tuple[str, str] | None:
        """Its first seven digits and its day (UTC), as 2026-11-28; of the workspace, the last; None without git."""
        scm = self.repository.scm
        if isinstance(scm, NoSCM):
            return None
        commit = scm.resolve_commit("HEAD" if self.sha == WORKSPACE else self.sha)
        return commit.hexsha[:7], datetime.fromtimestamp(commit.commit_time, UTC).date().isoformat()

    def names(self, folder: str) -> list[str]:
        """The files under a folder, at any depth, as `read` takes them, sorted; none where there is no such folder."""
        located = self._place(folder)
        if not self._files.isdir(located):
            return []
        return sorted(path.removeprefix(located.removesuffix(folder)) for path in self._files.find(located))

    def open(self, path: str) -> BinaryIO:
        """A file as `read` finds it, to be read in parts; its bytes are not compared with what was recorded.

        Raises UserError when the revision has no such file, or has it in a remote only.
        """
        with self._explained(path):
            stream: BinaryIO = self._files.open(self._place(path), "rb")
        return stream

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Say in words why a file cannot be read."""
        try:
            yield
        except DataIndexDirError as fault:  # what the folder has could not be learnt
            cause = reason(fault.__cause__ or fault, first_line=True)
            raise UserError(
                f"{self.name}: {path} is not in the local cache, and the folder that has it could not be fetched "
                f"({cause}); check the remote's address and your access (`dvc remote list`), and that it was pushed"
            ) from None
        except (OSError, DvcException):
            raise UserError(f"{self.name}: {self._absent(path)}") from None

    def _absent(self, path: str) -> str:
        """Why a file cannot be read: it is recorded and its bytes are elsewhere, or it is not recorded."""
        if self._files.isdir(self._place(path)):
            return f"{path} is a folder; name a file in it"
        if self._files.exists(self._place(path)):
            return f"{path} is not in {self._places}; {self._fetch()}"
        return self._missing(path)

    def _missing(self, path: str) -> str:
        return f"no {path} in this revision; run its pipeline (`dvc repro`), or name another"

    def _damaged(self) -> str:
        """What is wrong with bytes that are not the recorded ones, and what to do."""
        if self.sha == WORKSPACE:
            return "is not what dvc.lock records; restore it with `dvc checkout`, or run `dvc repro`"
        return f"is damaged in {self._places}; {self._fetch()}"

    def _place(self, path: str) -> str:
        return "/".join(["", *([self._base] if self._base else []), path])

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
        return DVCFileSystem(repo=self._indexed)

    def _merged(self, shown: dict[str, Any]) -> dict[str, Any]:
        """The values of all files that DVC shows of this one revision."""
        merged: dict[str, Any] = {}
        for files in shown.values():
            for path, content in files.get("data", {}).items():
                values = content.get("data")
                if not isinstance(values, dict):
                    cause = content.get("error") or "it is no object"
                    raise UserError(f"{self.name}: {path} cannot be read ({cause}); run its pipeline again")
                merged |= values
        return merged


def resolve(names: Sequence[str], repo: str | None = None, *, remotes: bool = False) -> list[Revision]:
    """The revisions that these names mean, in order; repo and remotes are those of `Revision`.

    Raises UserError for a name that means nothing or several experiments, and outside a DVC repository.
    """
    try:
        repository = Repo.open(repo) if repo else Repo()
    except NotDvcRepoError:
        raise UserError(f"{repo or 'this folder'} is not in a DVC repository; {_OTHER[bool(repo)]}") from None
    except SCMError as fault:
        raise UserError(
            f"{repo or 'this folder'}: no git repository can be read there ({reason(fault)}); name another"
        ) from None
    except FAULTS as fault:
        raise UserError(f"{repo or 'this folder'}: {cause(fault)}; {RESTORE}") from None
    with repository:
        return [Revision(name, _sha(repository, name, local=repo is None), repo, remotes) for name in names]


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


def _within(repo: Repo) -> str:
    """A DVC repository's folder in its git repository; empty where they are the same, or there is no git."""
    if isinstance(repo.scm, NoSCM) or isinstance(repo.fs, GitFileSystem):
        return ""
    folder = Path(repo.root_dir).resolve().relative_to(Path(repo.scm.root_dir).resolve())
    return folder.as_posix().removeprefix(".")


def _default_remote(repo: Repo) -> dict[str, Any]:
    """The default remote as the repository in its folder has it: a relative address in git leads elsewhere."""
    name = repo.config["core"].get("remote")
    return {"remote": {name: dict(repo.config["remote"][name])}} if name else {}


def md5(data: bytes) -> str:
    """The digest by which DVC knows a file."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

"""Is a revision coherent? Its dvc.lock says with which settings, data and code each stage ran.

An experiment of which only some stages ran still has the results of an earlier run, and so has a workspace whose
settings were edited since. Those results are another setting's. So the stages that lead to what is read are held to
the revision: settings in dvc.lock to those in its params.yaml, and what a stage read to what another one made.

`check` is left out: it reads every setting, also those that no other stage of the run uses.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dvc.utils.flatten import flatten
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from captioning.experiments.revisions import LOCK, PIPELINE, WORKSPACE, Revision, md5
from captioning.experiments.unread import RESTORE
from captioning.system.errors import UserError

METRICS = "data/evaluate/metrics.json"
_CODE = ("src/", "stages/")
_OUTPUTS = ("outs", "metrics", "plots")
_EXAMPLES = 3
_REMEDY = (
    "run it again there (`dvc repro`, or `dvc exp run` with its settings), or name another revision",
    "run `dvc repro`, or take the change back with git and `dvc checkout`",
)
_DIGESTS: dict[str, str | None] = {}  # of source files and folders, by git's name of their content
_ABSENT = object()


class Entry(BaseModel):
    """A dependency or an output of a stage. hash: `md5` unless DVC 2 made it, whose digests are of other bytes."""

    path: str
    md5: str | None = None
    hash: str | None = None


class Stage(BaseModel):
    """What a stage ran with: params by file and by dotted key."""

    deps: list[Entry] = Field(default_factory=list)
    outs: list[Entry] = Field(default_factory=list)
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)


class _Lock(BaseModel):
    stages: dict[str, Stage] = Field(default_factory=dict)


_LOCKS: dict[bytes, dict[str, Stage]] = {}  # by the text of a dvc.lock: many commits share one


class _Listed(BaseModel):
    md5: str
    relpath: str


_LISTING = TypeAdapter(list[_Listed])


def stages(revision: Revision) -> dict[str, Stage]:
    """The stages of a revision's dvc.lock, by name; none where it has no such file.

    Raises UserError when it is damaged.
    """
    text = revision.tracked(LOCK)
    if text is None:
        return {}
    try:
        if text not in _LOCKS:
            _LOCKS[text] = _Lock.model_validate(revision.mapping(LOCK)).stages
        return _LOCKS[text]
    except ValidationError as invalid:
        error = invalid.errors()[0]
        where = ".".join(map(str, error["loc"]))
        raise UserError(f"{revision.name}: {LOCK}: {where}: {error['msg']}; {RESTORE}") from None


class Examined(NamedTuple):
    """fault: why results are not those of the revision's own settings and data, in words; None: they are.

    code: source files and folders that differ from those with which the stages ran.
    """

    fault: str | None
    code: list[str]


def examine(revision: Revision, files: Iterable[str]) -> Examined:
    """Hold `files` of a revision, and all that leads to them, to the revision."""
    lock, paths = stages(revision), list(files)
    upstream = _upstream(lock, paths)
    faults: list[Iterator[str]] = [
        _unrecorded_faults(revision, lock, paths),
        *(_settings_faults(revision, name, lock[name]) for name in upstream),
        *(_data_faults(revision, lock, name) for name in upstream),
        _file_faults(revision, lock, paths),
    ]
    code = {dep.path: dep for name in upstream for dep in lock[name].deps if _is_code(dep)}
    return Examined(
        next((fault for found in faults for fault in found), None),
        sorted(path for path, dep in code.items() if _digest(revision, path) != dep.md5),
    )


def check(revision: Revision, files: Iterable[str]) -> None:
    """Raise UserError unless `files` of a revision are results of its own settings and data; warn of edited code."""
    examined = examine(revision, files)
    if examined.fault:
        raise UserError(f"{revision.name}: {examined.fault}; {_REMEDY[revision.sha == WORKSPACE]}")
    if examined.code:
        logging.getLogger(__name__).warning("%s", code_line(revision.name, examined.code))


def code_line(name: str, paths: Sequence[str]) -> str:
    """That results are those of earlier code, for standard error."""
    more = f" and {len(paths) - _EXAMPLES} more" if len(paths) > _EXAMPLES else ""
    return f"{name}: code was edited since these results were made ({', '.join(paths[:_EXAMPLES])}{more})"


def _is_code(dep: Entry) -> bool:
    return dep.hash == "md5" and dep.path.startswith(_CODE)


def _upstream(lock: Mapping[str, Stage], files: Iterable[str]) -> list[str]:
    """The stages that make these files, and all before them, in the order of the pipeline."""
    order: dict[str, None] = {}
    seen: set[str] = set()  # a damaged file may have a stage that depends on itself

    def add(path: str) -> None:
        for name, stage in lock.items():
            if name not in seen and name != "check" and any(_overlap(out.path, path) for out in stage.outs):
                seen.add(name)
                for dep in stage.deps:
                    add(dep.path)
                order[name] = None

    for path in files:
        add(path)
    return list(order)


def _overlap(path: str, other: str) -> bool:
    """Is one of these paths the other, or in it?"""
    first, second = PurePosixPath(path), PurePosixPath(other)
    return first == second or first in second.parents or second in first.parents


def _unrecorded_faults(revision: Revision, lock: Mapping[str, Stage], files: Iterable[str]) -> Iterator[str]:
    """Files of which dvc.lock says nothing: in the workspace, or in git though a stage of dvc.yaml makes them."""
    outs = [out.path for stage in lock.values() for out in stage.outs]
    for path in files:
        if not any(_overlap(out, path) for out in outs) and (revision.sha == WORKSPACE or _was_output(revision, path)):
            yield f"{LOCK} does not record {path}, so that its settings are unknown"


def _was_output(revision: Revision, path: str) -> bool:
    """Has git a file that a stage makes, from before dvc.lock lost that stage?"""
    if revision.tracked(path) is None or revision.tracked(PIPELINE) is None:
        return False
    return any(_overlap(out, path) for out in _declared(revision.mapping(PIPELINE).get("stages")))


def _declared(pipeline: Any) -> Iterator[str]:
    """The outputs of the stages of a dvc.yaml; each is a path, or a path with options."""
    for stage in pipeline.values() if isinstance(pipeline, dict) else ():
        for kind in _OUTPUTS if isinstance(stage, dict) else ():
            for out in stage.get(kind) or ():
                yield from out if isinstance(out, dict) else [str(out)]


def _settings_faults(revision: Revision, name: str, stage: Stage) -> Iterator[str]:
    for file, recorded in stage.params.items():
        present = revision.mapping(file)
        for key, value in recorded.items():
            yield from _differences(f"{name} ran with", file, key, value, _value_at(present, key))


def _differences(subject: str, file: str, key: str, recorded: Any, present: Any) -> Iterator[str]:
    if recorded != present:
        old, new = flatten({key: recorded}), flatten({key: present})
        where = next(part for part in [*old, *new] if old.get(part, _ABSENT) != new.get(part, _ABSENT))
        yield f"{subject} {where} = {_value_text(old, where)}, and {file} has {_value_text(new, where)}"


def _value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part, _ABSENT) if isinstance(values, dict) else _ABSENT
    return values


def _value_text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key, _ABSENT)
    if value is _ABSENT:
        return "none"
    text = json.dumps(value, default=str, ensure_ascii=False) if not isinstance(value, str) else value
    return text[:60] or "''"


def _data_faults(revision: Revision, lock: Mapping[str, Stage], name: str) -> Iterator[str]:
    """What a stage read, and another stage has made again since."""
    for dep in lock[name].deps:
        for producer, stage in lock.items():
            digests = [_output_digest(revision, out, dep.path) for out in stage.outs]
            if any(digest not in (None, dep.md5) for digest in digests):
                yield f"{name} ran with another {dep.path} than {producer} made"


def _output_digest(revision: Revision, out: Entry, path: str) -> str | None:
    """The digest of a path in what a stage made; None: it is not in it, or that cannot be known without fetching it."""
    if out.path == path:
        return out.md5
    folder, inside = PurePosixPath(out.path), PurePosixPath(path)
    if folder not in inside.parents or out.md5 is None:
        return None
    return _folder_digests(revision, out.md5).get(inside.relative_to(folder).as_posix())


def _folder_digests(revision: Revision, digest: str) -> dict[str, str]:
    """The digest of each file of a folder, by its path there, as far as the local cache knows."""
    cache = revision.repository.cache.local
    path = Path(cache.oid_to_path(digest)) if cache else None  # a repository that was cloned for its address has none
    if path is None or not path.is_file():
        return {}
    try:
        return {row.relpath: row.md5 for row in _LISTING.validate_json(path.read_bytes())}
    except ValidationError:
        raise UserError(f"{revision.name}: {path} is damaged in the local cache; remove it, then `dvc fetch`") from None


def _file_faults(revision: Revision, lock: Mapping[str, Stage], files: Iterable[str]) -> Iterator[str]:
    """Files in git or in the workspace that differ from what was recorded; DVC's are compared when they are read."""
    outs = {out.path: out.md5 for stage in lock.values() for out in stage.outs}
    for path in files:
        data = revision.tracked(path) if path in outs else None
        if data is not None and md5(data) != outs[path]:
            yield f"{path} is not what {LOCK} records"


def _digest(revision: Revision, path: str) -> str | None:
    """The digest of a source file or folder, as DVC records it; None where there is neither."""
    files, located = revision.repository.fs, revision.place(path)
    try:
        info = files.info(located)
    except (FileNotFoundError, NotADirectoryError):
        return None
    digest: Callable[[Revision, str], str] = _of_folder if info["type"] == "directory" else _of_file
    sha: str | None = info.get("sha")  # git has a name for the content, the same in every revision that has it
    if sha is None:
        return digest(revision, located)
    if sha not in _DIGESTS:
        _DIGESTS[sha] = digest(revision, located)
    return _DIGESTS[sha]


def _of_file(revision: Revision, located: str) -> str:
    with revision.repository.fs.open(located, "rb") as stream:
        return md5(stream.read())


def _of_folder(revision: Revision, located: str) -> str:
    """DVC's digest of the list of files that it does not ignore."""
    repo = revision.repository
    by_parts = {tuple(repo.fs.relparts(file, located)): file for file in repo.dvcignore.find(repo.fs, located)}
    rows = [{"md5": _of_file(revision, by_parts[parts]), "relpath": "/".join(parts)} for parts in sorted(by_parts)]
    return f"{md5(json.dumps(rows, sort_keys=True).encode())}.dir"

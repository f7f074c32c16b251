"""What touches the disk: atomic writes, digests, JSON, and where scratch files live.

Everything that is written appears under its final name only when it is whole.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from captioning.system.errors import UserError, reason, shown
from captioning.system.processes import another_runs

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNLINKED = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)  # a file system without hard links
_BARRED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY, errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    When the block raises, the temporary file or folder is removed and `path` is untouched. What a killed process left
    of an earlier try is removed too. An OSError of the disk names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _sweep(path)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as fault:
        if fault.filename is None or str(fault.filename).startswith(str(temporary)):
            fault.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # where nothing may be removed any more; the next write does it
            _remove(temporary)


def _sweep(path: Path) -> None:
    """Remove temporary files of `path` whose process is this one or none."""
    prefix = f".{path.name}."
    for left in path.parent.iterdir():
        process = left.name.removeprefix(prefix).removesuffix(".tmp")
        if left.name == f"{prefix}{process}.tmp" and process.isdecimal() and not another_runs(int(process)):
            _remove(left)


@contextmanager
def disk_faults_told(path: Path) -> Iterator[None]:
    """Raise UserError for an OSError of a disk that is full or may not be written, and of a name that is too long.

    path: what is named where the fault names no file.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno == errno.ENAMETOOLONG:
            raise UserError(f"{shown(fault.filename or path)}: {fault.strerror}; give a shorter one") from fault
        if fault.errno not in _FULL + _BARRED:
            raise
        raise UserError(
            f"{fault.filename or path}: {fault.strerror}; make room or give access, and run again"
        ) from fault


def link(source: Path, target: Path) -> None:
    """Give a file a second name, `target`, which is none yet; where the file system has no hard links, copy it."""
    try:
        os.link(source, target)
    except OSError as fault:
        if fault.errno not in _UNLINKED:
            raise
        copy(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder to `target`, in place of what is there; on another file system it is copied first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        _remove(target)
    try:
        source.replace(target)
    except OSError as fault:
        if fault.errno != errno.EXDEV:  # two mounts of one file system are two as well
            raise
        with atomic(target) as temporary:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary)
        _remove(source)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes to `target` atomically: no later change of the one reaches the other."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with `\\n` line ends."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys: the same value gives the same bytes.

    Raises ValueError for NaN and infinities, which are not JSON.
    """
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError, with file and line, when it is missing or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as fault:
        raise UserError(f"{path}, line {fault.lineno}: not JSON ({fault.msg})") from None
    except (ValueError, RecursionError, OSError) as fault:  # not UTF-8, a number of 5,000 digits, a folder
        raise UserError(f"{path}: not JSON ({shown(reason(fault))})") from None


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's bytes, read in pieces: memory stays flat."""
    state = hashlib.new(algorithm)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def run_key(settings: Mapping[str, Any], inputs: Iterable[Path], code: Mapping[str, Path]) -> str:
    """A digest of the settings, of the input files and of the source files, `code`, by name."""
    parts = [json.dumps(settings, sort_keys=True, default=str)]
    parts += [f"{path.name} {digest(path)}" for path in inputs]
    parts += [f"{name} {digest(path)}" for name, path in code.items()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def main_root() -> Path:
    """The main repository's folder, also when DVC runs a copy of it under `.dvc/tmp/exps/`.

    Outside DVC it is the working folder.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    marker = f"{os.sep}.dvc{os.sep}tmp{os.sep}exps{os.sep}"
    head, separator, _ = f"{root}{os.sep}".partition(marker)
    return Path(head) if separator else root


def user_cache(name: str) -> Path:
    """Where `name` is kept for this user, whatever the project: under XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captioning" / name


def scratch(name: str) -> Path:
    """A folder for unfinished work (partial downloads, checkpoints) that DVC never removes.

    It is in the main repository, so that queued experiments find it too.
    """
    folder = main_root() / ".scratch" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder

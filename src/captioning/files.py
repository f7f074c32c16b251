"""What touches the disk: atomic writes, digests, JSON, and where scratch files live.

Everything that is written appears under its final name only when it is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioning.errors import UserError

_CHUNK = 1 << 20


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    When the block raises, the temporary file or folder is removed and `path` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a folder to `target`, in place of what is there; on another file system it is copied first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_dev == target.parent.stat().st_dev:
        _remove(target)
        source.rename(target)
    else:
        with atomic(target) as temporary:
            shutil.copytree(source, temporary)
        shutil.rmtree(source)


def write_bytes(path: Path, data: bytes) -> None:
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


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The hex digest of a file's bytes, read in pieces: memory stays flat."""
    state = hashlib.new(algorithm)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def run_key(settings: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """A digest of the settings, of the input files and of every line of the library."""
    code = sorted(Path(__file__).parent.rglob("*.py"))
    parts = [json.dumps(settings, sort_keys=True, default=str)]
    parts += [f"{path.name} {digest(path)}" for path in [*code, *inputs]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def main_root() -> Path:
    """The main repository's folder, also when DVC runs a copy of it under `.dvc/tmp/exps/`.

    Outside DVC it is the working folder.
    """
    root = Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
    marker = f"{os.sep}.dvc{os.sep}tmp{os.sep}exps{os.sep}"
    head, found, _ = f"{root}{os.sep}".partition(marker)
    return Path(head) if found else root


def scratch(name: str) -> Path:
    """A folder for unfinished work (partial downloads, checkpoints) that DVC never removes.

    It is in the main repository, so that queued experiments find it too.
    """
    folder = main_root() / ".scratch" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder

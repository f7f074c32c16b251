"""Unfinished work in `.scratch/`: what there is, how much, and how it goes when nobody takes it up again.

    train/KEY       the checkpoint of a training that was interrupted
    objects/KEY     the same of a detector's training; or what a detector has found so far; or the last whole of this
    features/KEY    shards of a feature store; or the last whole one, mostly as hard links, for later experiments
    downloads/*.part, weights/*.part    what has arrived of a file

A piece that another process works on is never removed. A whole store is removed only when a person asks.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from captioning.system.files import main_root
from captioning.system.locks import if_free

_DAY = 86_400.0  # seconds
OLD_DAYS, MOST_BYTES = 30, 10 << 30  # what is older, or beyond this in all, is removed before new work begins
_KEYED, _FETCHED = ("train", "objects", "features"), ("downloads", "weights")
_FRESH_DAYS = 1.0  # what is younger is never removed on the way


class Piece(NamedTuple):
    """Unfinished work: a folder or file, its kind (a folder of `.scratch/`), bytes on the disk, and age in days.

    Hard links do not count as bytes: removing them frees nothing.
    """

    path: Path
    kind: str
    bytes: int
    days: float

    @property
    def whole(self) -> bool:
        """Is it a whole feature store? Without it, the next experiment that reads these features encodes them again."""
        return (self.path / "store/index.json").is_file()

    def __str__(self) -> str:
        whole = ", a whole feature store" if self.whole else ""
        return f"{self.kind}/{self.path.name}: {shown(self.bytes)}, {self.days:.0f} days old{whole}"


def shown(count: int) -> str:
    """A number of bytes as a person reads it: 1.5 MB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def pieces() -> list[Piece]:
    """All unfinished work of this repository, the oldest first."""
    root = main_root() / ".scratch"
    folders = [path for kind in _KEYED for path in (root / kind).glob("[!.]*") if path.is_dir()]
    parts = [path for kind in _FETCHED for path in (root / kind).glob("*.part")]
    return sorted(map(_piece, [*folders, *parts]), key=lambda piece: (-piece.days, piece.path))


def _piece(path: Path) -> Piece:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    status = [file.stat() for file in files]
    last = max([found.st_mtime for found in status], default=path.stat().st_mtime)
    size = sum(found.st_size for found in status if found.st_nlink == 1)
    return Piece(path, path.parent.name, size, max(0.0, time.time() - last) / _DAY)


def remove(piece: Piece) -> bool:
    """Remove a piece; False, and nothing is removed, where a process works on it."""
    with _unused(piece) as unused:
        if unused and piece.path.is_dir():
            shutil.rmtree(piece.path)
        elif unused:
            piece.path.with_name(f"{piece.path.name}.json").unlink(missing_ok=True)
            piece.path.unlink(missing_ok=True)
        return unused


def sweep() -> list[Piece]:
    """Remove what is old, and the oldest of what is too much in all, but no whole store; return what was removed."""
    present = [piece for piece in pieces() if not piece.whole]
    excess = sum(piece.bytes for piece in present) - MOST_BYTES
    removed: list[Piece] = []
    for piece in present:
        needed = piece.days > OLD_DAYS or (excess > 0 and piece.days > _FRESH_DAYS)
        if needed and remove(piece):
            removed.append(piece)
            excess -= piece.bytes
    return removed


@contextmanager
def _unused(piece: Piece) -> Iterator[bool]:
    """Hold the locks of a piece, if all are free: of the piece, and of each training that runs here or in a queue."""
    root = piece.path.parents[1]
    locks = [piece.path.with_name(f".{piece.path.name.removesuffix('.part')}.lock")]
    locks += (root / "running").glob(f"{piece.kind}-*.lock") if piece.kind in ("train", "objects") else []
    with ExitStack() as stack:
        yield all(stack.enter_context(if_free(lock)) for lock in locks if lock.exists())

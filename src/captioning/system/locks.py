"""One process at a time in a block: locks on files, which the operating system frees when their process ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Run the block in one process at a time; the others wait here, and say so. `path` is a file made for this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _say(f"waiting: another process works in {path.parent}")
        lock.acquire()
    with _released(lock):
        yield


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """As `alone`, but nobody waits: False, where another process is in its block."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
    else:
        with _released(lock):
            yield True


@contextmanager
def _released(lock: FileLock) -> Iterator[None]:
    try:
        yield
    finally:
        lock.release()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""SIGTERM asks a process to leave, before SIGKILL makes it: what can be resumed is saved first."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM has come. No `except Exception` holds it; files that are half-written are removed on its way out."""


def heed() -> None:
    """From now on, SIGTERM raises Terminated in the main thread; a second one ends the process at once."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """SIGTERM waits for the end of the block, which raises Terminated then.

    The yielded function returns whether it has come. For the main thread.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
    if came:
        raise Terminated

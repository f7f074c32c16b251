"""SIGTERM asks a process to leave, before SIGKILL makes it: what can be resumed is saved first."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM has come. No `except Exception` holds it; files that are half-written are removed on its way out."""


def leave_at_once(advice: str) -> None:
    """From now on, Ctrl-C and SIGTERM end the process in one line, with 130 or 143.

    For the time in which libraries are loaded: there is nothing to save, and some of them turn the exception of an
    interrupt into one of their own. advice: the end of the line, what to do next.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        os.write(sys.stderr.fileno(), f"{_NAMES[number]}; {advice}\n".encode())
        os._exit(128 + number)

    for number in _NAMES:
        signal.signal(number, leave)


_NAMES: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def heed() -> None:
    """From now on, Ctrl-C raises KeyboardInterrupt, and SIGTERM Terminated, in the main thread.

    A second SIGTERM ends the process at once.
    """
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _leave)


_came: list[int] = []


def came() -> bool:
    """Has Ctrl-C or SIGTERM come since `heed`? A library may have made another exception of it."""
    return bool(_came)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _came.append(number)
    raise KeyboardInterrupt


def _leave(number: int, _frame: FrameType | None) -> None:
    _came.append(number)
    signal.signal(number, signal.SIG_DFL)
    raise Terminated


def ended() -> tuple[str, int]:
    """What the first signal is called, and the status of a process that it ends."""
    return _NAMES[_came[0]], 128 + _came[0]


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

"""Ctrl-C and SIGTERM end a command or a stage in one line, with status 130 or 143; what can be resumed is saved first.

This module imports as little as it can, types not at all: signals are heeded once it is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager

TYPE_CHECKING = False  # as a type checker sees it, True; `typing` takes longer to load than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from sys import UnraisableHookArgs
    from types import FrameType
    from typing import NoReturn

_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_came: list[int] = []  # the signals, in order
_advice = [""]  # what the line ends in


class Stopped(BaseException):
    """Ctrl-C or SIGTERM has come. No `except Exception` holds it; half-written files are removed on its way out."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


def advise(advice: str) -> None:
    """End the line that a signal prints with what to do next."""
    _advice[0] = f"; {advice}"


def leave_at_once() -> None:
    """From now on, a signal ends the process, in one line.

    For the time in which libraries are loaded or unloaded: there is nothing to save, and some of them turn the
    exception of an interrupt into one of their own.
    """
    _handle(_leave)


def heed() -> None:
    """From now on, a signal raises Stopped in the main thread, so that half-written files are removed.

    A second one ends the process at once. So does one in a destructor, where Python drops every exception.
    """
    sys.unraisablehook = _unraisable
    _handle(stop)


def came() -> bool:
    """Has a signal come since `heed`? A library may have made another exception of it."""
    return bool(_came)


def ended() -> tuple[str, int]:
    """The line of the first signal, and the status of a process that it ends."""
    return f"{_NAMES[signal.Signals(_came[0])]}{_advice[0]}", 128 + _came[0]


def leave() -> NoReturn:
    """End the process with the line and the status of the first signal.

    What the interpreter does at its end is left out: it prints a traceback where a library is half-loaded.
    """
    line, status = ended()
    os.write(2, f"{line}\n".encode())
    os._exit(status)


@contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """SIGTERM waits for the end of the block, which raises Stopped then.

    The yielded function returns whether it has come. For the main thread.
    """
    waiting: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: waiting.append(number))
    try:
        yield lambda: bool(waiting)
    finally:
        signal.signal(signal.SIGTERM, before)
    if waiting:
        stop(waiting[0])


def _handle(handler: signal._HANDLER) -> None:
    """Also where a shell has started this with Ctrl-C ignored: the workers of DVC's queue would inherit that."""
    for number in _NAMES:
        signal.signal(number, handler)


def stop(number: int, _frame: FrameType | None = None) -> NoReturn:
    """A signal has come: raise Stopped, and let a second one end the process at once."""
    _came.append(number)
    leave_at_once()
    raise Stopped(number)


def _leave(number: int, _frame: FrameType | None = None) -> NoReturn:
    _came.append(number)
    leave()


def _unraisable(unraisable: UnraisableHookArgs) -> None:
    """Python prints, and drops, an exception that is raised in a destructor."""
    if isinstance(unraisable.exc_value, Stopped):
        leave()
    sys.__unraisablehook__(unraisable)

"""How the command `captioning` begins and ends: Ctrl-C, SIGTERM and a user's mistake are one line and a status.

This module imports as little as it can, types not at all: signals are handled once it is loaded.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # as a type checker sees it, True; `typing` takes longer to load than all of this
if TYPE_CHECKING:
    from sys import UnraisableHookArgs
    from types import FrameType
    from typing import NoReturn

_LINES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_received: list[int] = []


class Stopped(BaseException):
    """Ctrl-C or SIGTERM has come. No `except Exception` holds it; half-written files are removed on its way out."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number


def main() -> None:
    """The entry point. A user's mistake is status 1, Ctrl-C 130, SIGTERM 143; each is one line, and no traceback."""
    _handle_signals(_exit_at_once)
    from pathlib import Path

    from captioning.cli.app import app
    from captioning.system.errors import UserError, printed
    from captioning.system.files import disk_faults_told

    sys.unraisablehook = _unraisable
    try:
        try:
            _handle_signals(_stop)
            with disk_faults_told(Path("standard output")):
                app()
        finally:
            _handle_signals(_exit_at_once)
    except SystemExit as end:
        _flush(end)
    except BaseException as fault:
        if _received:  # a library may have made another exception of it
            _exit_at_once(_received[0])
        if isinstance(fault, UserError):
            sys.exit(f"error: {printed(fault)}")
        raise


def _handle_signals(handler: signal._HANDLER) -> None:
    """Also where a shell has started this with Ctrl-C ignored: the workers of DVC's queue would inherit that."""
    for number in _LINES:
        signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """The first signal lets files be removed that are half-written; a second one does not wait for it."""
    _received.append(number)
    _handle_signals(_exit_at_once)
    raise Stopped(number)


def _exit_at_once(number: int, _frame: FrameType | None = None) -> NoReturn:
    """Without what the interpreter does at its end, which prints a traceback where a library is half-loaded."""
    first = signal.Signals((_received or [number])[0])
    os.write(2, f"{_LINES[first]}\n".encode())
    os._exit(128 + first)


def _unraisable(unraisable: UnraisableHookArgs) -> None:
    """Python prints, and drops, an exception that is raised in a destructor."""
    if isinstance(unraisable.exc_value, Stopped):
        _exit_at_once(_received[0])
    sys.__unraisablehook__(unraisable)


def _flush(end: SystemExit) -> NoReturn:
    """Standard output may fail: a full disk is reported, a reader that has closed the pipe is not."""
    try:
        sys.stdout.flush()
    except OSError as fault:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(fault, BrokenPipeError) else f"error: standard output: {fault.strerror}")
    raise end

"""How the command `captioning` begins and ends: Ctrl-C, SIGTERM and a user's mistake are one line and a status.

This module imports as little as it can, types not at all: signals are heeded once it is loaded.
"""

from __future__ import annotations

import os
import sys

from captioning.system import quickly, signals

TYPE_CHECKING = False  # as a type checker sees it, True; `typing` takes longer to load than all of this
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> None:
    """The entry point. A user's mistake is status 1, Ctrl-C 130, SIGTERM 143; each is one line, and no traceback."""
    try:
        _main()
    except SystemExit as end:
        quickly.end(end)


def _main() -> None:
    signals.leave_at_once()
    from pathlib import Path

    from captioning.cli.app import app
    from captioning.system.errors import UserError, printed
    from captioning.system.files import disk_faults_told

    try:
        try:
            signals.heed()
            with disk_faults_told(Path("standard output")):
                app()
        finally:
            signals.leave_at_once()
    except SystemExit as end:
        _flush(end)
    except BaseException as fault:
        if signals.came():  # a library may have made another exception of it
            signals.leave()
        if isinstance(fault, UserError):
            sys.exit(f"error: {printed(fault)}")
        raise


def _flush(end: SystemExit) -> NoReturn:
    """Standard output may fail: a full disk is reported, a reader that has closed the pipe is not."""
    try:
        sys.stdout.flush()
    except OSError as fault:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(fault, BrokenPipeError) else f"error: standard output: {fault.strerror}")
    raise end

"""The start and the end of a process in less time. With torch, each takes Python as long as small work itself.

This module imports as little as it can, types not at all.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # as a type checker sees it, True
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn


@contextmanager
def loading() -> Iterator[None]:
    """While libraries and models are loaded, no garbage is collected.

    Modules are no garbage, and Python would look through all of them hundreds of times. Nothing is frozen: a program
    that uses this library has garbage of its own.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def end(exit_: SystemExit) -> NoReturn:
    """End the process as `exit_` would, but objects are not taken apart one by one: the system frees their memory.

    What is registered for the end is done. Where threads still work, or a stream cannot be written, Python ends as
    ever.
    """
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        with suppress(OSError):
            status = _status(exit_)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    raise exit_


def _status(exit_: SystemExit) -> int:
    """The status that Python gives the process; what is no number is printed."""
    if exit_.code is None or isinstance(exit_.code, int):
        return exit_.code or 0
    print(exit_.code, file=sys.stderr)
    exit_.code = 1
    return 1

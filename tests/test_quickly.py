"""Processes that load and end quickly: what is printed, registered and returned is as ever."""

import gc
import subprocess
import sys

import pytest

from captioning.system import quickly

_END = "import atexit, sys, threading; from captioning.system import quickly\n"
_OBJECT = "class Kept:\n    def __del__(self): print('taken apart')\nkept = Kept()\n"


def ended(code: str) -> tuple[int, str, str]:
    """Status, output and errors of a Python program."""
    done = subprocess.run((sys.executable, "-c", _END + code), capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "expected"), [("None", (0, "")), ("3", (3, "")), ("'error: a line'", (1, "error: a line\n"))]
)
def test_what_is_registered_is_done_and_objects_are_left(code: str, expected: tuple[int, str]) -> None:
    program = f"{_OBJECT}atexit.register(print, 'registered')\nprint('worked')\nquickly.end(SystemExit({code}))"
    status, errors = expected
    assert ended(program) == (status, "worked\nregistered\n", errors)


def test_a_thread_that_still_works_is_waited_for() -> None:
    program = (
        "go = threading.Event()\n"
        "threading.Thread(target=lambda: (go.wait(), print('the thread too'))).start()\n"
        "try: quickly.end(SystemExit(3))\n"
        "finally: go.set()"
    )
    assert ended(program) == (3, "the thread too\n", "")


def test_garbage_is_collected_after_loading_alone() -> None:
    frozen = gc.get_freeze_count()
    with quickly.loading():
        assert not gc.isenabled()
        with quickly.loading():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen  # the caller's garbage is still found


def test_where_none_is_collected_none_is_later() -> None:
    gc.disable()
    try:
        with quickly.loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

"""Ctrl-C and SIGTERM: an exception at once, or at the end of a block that asks for it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from captioning.system import signals
from captioning.system.signals import Stopped
from tests.imports import ROOT


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(signals, "_came", [])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_raised_at_once_and_a_second_one_ends_the_process(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals.heed()
    with pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.status == 128 + number
    left: list[bool] = []
    monkeypatch.setattr(signals, "leave", lambda: left.append(True))
    ask()
    assert left == [True]
    assert signals.ended()[1] == 128 + number  # the first one counts


def test_it_waits_for_the_end_of_a_block() -> None:
    signals.heed()
    seen = []

    def work() -> None:
        with signals.postponed() as asked:
            seen.append(asked())
            ask()
            seen.append(asked())

    with pytest.raises(Stopped):
        work()
    assert seen == [False, True]
    assert signals.ended()[1] == 143


def test_a_block_that_nobody_interrupts_ends_as_any() -> None:
    signals.heed()
    with signals.postponed() as asked:
        assert not asked()
    with pytest.raises(Stopped):
        ask()


_LOADING = "import sys; sys.argv = ['-m']; import stages, os, signal; os.kill(os.getpid(), signal.{0}); sys.exit('on')"
_IMPORTING = """
import os, signal, stages
stages.import_module = lambda name: os.kill(os.getpid(), signal.{0})
stages.run("vocab")
"""


@pytest.mark.parametrize("program", [_LOADING, _IMPORTING], ids=["while libraries are loaded", "while the stage is"])
@pytest.mark.parametrize(("name", "said", "status"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)])
def test_a_stage_that_is_interrupted_early_ends_in_one_line(program: str, name: str, said: str, status: int) -> None:
    command = [sys.executable, "-c", program.format(name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, f"{said}; run the same command again to go on\n")
    assert done.stdout == ""


_SWALLOWED = """
import os, signal, stages
def load(settings):
    try:
        os.kill(os.getpid(), signal.{0})
    except BaseException:
        raise {1}("a library's own")
stages._pinned = lambda stage, settings: load(settings)
stages.run("vocab")
"""


@pytest.mark.parametrize("kind", ["ValueError", "stages.UserError", "OSError"])
@pytest.mark.parametrize(("name", "said", "status"), [("SIGINT", "interrupted", 130), ("SIGTERM", "terminated", 143)])
def test_a_library_that_makes_another_exception_of_it_changes_nothing(
    name: str, said: str, status: int, kind: str
) -> None:
    """As safetensors does in the middle of a file."""
    command = [sys.executable, "-c", _SWALLOWED.format(name, kind)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, f"{said}; run the same command again to go on\n")


def test_of_two_interrupts_the_work_can_handle_the_first() -> None:
    signals.leave_at_once()
    signals.heed()
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGINT)

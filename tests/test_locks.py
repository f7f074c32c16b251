"""Locks: one process at a time, and nobody waits for a process that is no more."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from captioning.system import locks, processes

HOLDER = """
import sys
from pathlib import Path
from captioning.system.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, in its block until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_lock_that_is_held_is_not_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locks.if_free(lock) as free:
        assert free
        with locks.if_free(lock) as again:
            assert not again
    with locks.if_free(lock) as free:
        assert free


def test_a_lock_is_free_after_a_block_that_raised(tmp_path: Path) -> None:
    def fail() -> None:
        with locks.alone(tmp_path / "made/lock"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with locks.if_free(tmp_path / "made/lock") as free:
        assert free


def test_who_waits_says_so_and_goes_on_when_the_other_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, told = tmp_path / "lock", []
    with holder(lock) as other:

        def leave(text: str) -> None:
            assert other.stdin
            other.stdin.close()
            told.append(text)

        monkeypatch.setattr(locks, "_say", leave)
        with locks.if_free(lock) as free:
            assert not free
        with locks.alone(lock):
            assert told == [f"waiting: another process works in {tmp_path}"]


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with holder(tmp_path / "lock") as other:
        other.kill()
        other.wait()
        with locks.if_free(tmp_path / "lock") as free:
            assert free


def test_a_process_is_another_while_it_runs() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert processes.another_runs(other.pid)
    assert not processes.another_runs(other.pid)
    assert not processes.another_runs(os.getpid())
    assert processes.another_runs(1)  # another user's, perhaps

"""SIGTERM: an exception at once, or at the end of a block that asks for it."""

import os
import signal
from collections.abc import Iterator

import pytest

from captioning.system import signals
from captioning.system.signals import Terminated


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_is_raised_at_once_and_a_second_one_ends_the_process() -> None:
    signals.heed()
    with pytest.raises(Terminated):
        ask()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_waits_for_the_end_of_a_block() -> None:
    signals.heed()
    heeded, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with signals.postponed() as asked:
            seen.append(asked())
            ask()
            seen.append(asked())

    with pytest.raises(Terminated):
        work()
    assert seen == [False, True]
    assert signal.getsignal(signal.SIGTERM) is heeded


def test_a_block_that_nobody_interrupts_ends_as_any() -> None:
    with signals.postponed() as asked:
        assert not asked()

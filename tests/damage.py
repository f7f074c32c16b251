"""Kinds of faults in which files are damaged between a kill and the repeated stage, or the kill comes very early.

Bits that flipped and writes that power took, in unfinished work: the repeated run ends with the bytes of an undisturbed
one. A flipped bit in an input: refused in one line, or without effect.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol

from tests.forks import Ended, Run
from tests.imports import ROOT, STAGES
from tests.trees import difference, tree

STARTED_S = 0.4  # seconds in which Python itself starts, before any line of the project runs
RESUMED = ("features", "train")  # stages with unfinished work of their own


class MissedError(Exception):
    """The run had ended before its fault, or there was nothing to damage."""


class Bench(Protocol):
    """What `tests.faults` has made ready."""

    events: dict[str, int]
    before: dict[str, Path]
    trees: dict[str, dict[str, str]]
    folder: Path
    expected: dict[str, dict[str, str]]

    def case(self, stage: str) -> AbstractContextManager[Path]: ...

    def again(self, stage: str, folder: Path) -> str: ...


def killed(bench: Bench, stage: str, folder: Path, draw: random.Random) -> None:
    """Kill the stage at one of its writes."""
    if Run(stage, folder, draw.randint(1, bench.events[stage])).wait().status == 0:
        raise MissedError


def flip(path: Path, draw: random.Random) -> None:
    """Flip a bit of a file, which may be a hard link of another one."""
    data = bytearray(path.read_bytes())
    if not data:
        raise MissedError
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    replace(path, bytes(data))


def replace(path: Path, data: bytes) -> None:
    """Give a file other bytes, and its other names none of them."""
    path.unlink()
    path.write_bytes(data)


def unfinished(folder: Path, stage: str, draw: random.Random) -> Path:
    """A file of the stage's unfinished work."""
    files = [
        path for path in sorted((folder / ".scratch" / stage).rglob("*")) if path.is_file() and path.suffix != ".lock"
    ]
    if not files:
        raise MissedError
    return draw.choice(files)


def bits_flipped(bench: Bench, stage: str, draw: random.Random) -> str:
    """In unfinished work, between the kill and the repeated run."""
    with bench.case(stage) as folder:
        killed(bench, stage, folder, draw)
        flip(unfinished(folder, stage, draw), draw)
        return bench.again(stage, folder)


def writes_lost(bench: Bench, stage: str, draw: random.Random) -> str:
    """What the file system had not written when power went: some files are cut, or their ends are zeros."""
    with bench.case(stage) as folder:
        killed(bench, stage, folder, draw)
        for _ in range(draw.randint(1, 3)):
            path = unfinished(folder, stage, draw)
            data = path.read_bytes()
            left = data[: draw.randint(0, len(data))]
            replace(path, left if draw.random() < 0.5 else left.ljust(len(data), b"\0"))
        return bench.again(stage, folder)


def input_flipped(bench: Bench, stage: str, draw: random.Random) -> str:
    """A bit of what the stages before it left: one line that says so, or a result that it does not touch."""
    with bench.case(stage) as folder:
        path = draw.choice([path for path in sorted((folder / "data").rglob("*")) if path.is_file()])
        name = str(path.relative_to(folder))
        flip(path, draw)
        ended = Run(stage, folder).wait()
        if ended.status:
            return refusal(ended)
        found = {key: value for key, value in tree(folder).items() if key != name}
        wanted = {key: value for key, value in bench.trees[stage].items() if key != name}
        return difference(results(found), results(wanted))


def results(files: dict[str, str]) -> dict[str, str]:
    """The files of results alone."""
    return {name: value for name, value in files.items() if name.startswith("data/")}


def refusal(ended: Ended) -> str:
    """What is wrong with how a damaged input was refused; empty: in one line, with status 1."""
    lines = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    if ended.status != 1 or "Traceback" in ended.said or len(lines) != 1:
        return f"status {ended.status}, said {ended.said[-1500:]}"
    return ""


def cold_interrupted(bench: Bench, stage: str, draw: random.Random) -> str:
    """Ctrl-C, SIGTERM or SIGKILL in the first two seconds of a process, in which libraries load."""
    number, after = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]), draw.uniform(0, 2)
    with bench.case(stage) as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "stages", stage]
        with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            if process.poll() is not None:
                raise MissedError
            process.send_signal(number)
            said = process.communicate()[1].strip()
        if process.returncode == 0:
            raise MissedError
        wrong = "" if after < STARTED_S or number == signal.SIGKILL else _not_one_line(process.returncode, number, said)
        return wrong or bench.again(stage, folder)


def _not_one_line(status: int, number: int, said: str) -> str:
    expected = f"{'interrupted' if number == signal.SIGINT else 'terminated'}; run the same command again to go on"
    return "" if (status, said.splitlines()[-1:]) == (128 + number, [expected]) else f"status {status}, said {said}"


Kind = Callable[[Bench, str, random.Random], str]
STAGES_OF: dict[Kind, tuple[str, ...]] = {
    bits_flipped: RESUMED,
    writes_lost: RESUMED,
    input_flipped: ("vocab", "split", "objects", "features", "train", "evaluate"),
    cold_interrupted: tuple(STAGES),
}
"""The kinds, each with the stages that it can hit."""

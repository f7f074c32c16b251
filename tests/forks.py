"""A stage in a fork of a process that has loaded torch already, and what happens to it at a moment that is counted."""

import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from captioning.system import compute
from tests.imports import STAGES

TOO_LONG = 120.0  # seconds, of any run
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}

Act = Callable[[], Any]


def warm(threads: int) -> None:
    """Load all that stages load, before the first fork; no thread is started."""
    compute.pin(portable=True, threads=threads)
    for name in (
        "dvc.repo",
        "dvc.scm",
        "scmrepo.git",
        "PIL.PngImagePlugin",
        "PIL.JpegImagePlugin",
        "torch",
        "torchvision",
        "lightning_fabric",
        "captioning.training.trainer",
        "captioning.training.tracking.live",
        "captioning.training.self_critical",
        "captioning.data.extraction.extraction",
        "captioning.evaluation.samples",
        "captioning.evaluation.attention_maps",
        "captioning.captioner.ensembles",
        "captioning.decoders.oscar",
        *(f"stages.{stage}" for stage in STAGES),
    ):
        import_module(name)
    gc.freeze()  # else each fork goes through all of it


def die() -> None:
    """As if the power of this process were cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def asked_to_leave() -> None:
    """As a scheduler does before it kills."""
    os.kill(os.getpid(), signal.SIGTERM)


class Ended(NamedTuple):
    """How a run ended. status: as a shell has it, or minus the signal. said: its standard error."""

    status: int
    said: str
    seconds: float

    def error(self) -> str:
        """What is wrong with how it failed on a disk; empty: it said so in one line."""
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        if self.status != 1 or "Traceback" in self.said or len(lines) != 1 or "and run again" not in lines[0]:
            return f"status {self.status}, said {self.said[-1500:]}"
        return ""


class Run:
    """Work in a fork of this process, which counts what it changes in a folder, and acts at one of these moments.

    work: a stage, by name, or a function. code: a copy of the project, whose stage is run in place of this one's.
    """

    def __init__(
        self, work: str | Act, folder: Path, moment: int = 0, act: Act = die, *, code: Path | None = None
    ) -> None:
        self._log = folder.parent / f"{folder.name}-{time.monotonic_ns()}.log"
        self.events = self._log.with_suffix(".events")
        self._begin = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            self._child(work if callable(work) else lambda: _run(work, code), folder, moment, act)
        self._end = os.pidfd_open(self.pid)

    def _child(self, work: Act, folder: Path, moment: int, act: Act) -> NoReturn:
        status = 1
        try:
            stream = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            os.chdir(folder)
            count = _watch(folder, moment, act)
            work()
            status = 0
            self.events.write_text(str(count[0]))
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
            if isinstance(left.code, str):
                print(left.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def over(self, within: float) -> bool:
        """Wait so many seconds for the end. Has it come?"""
        return bool(select.select([self._end], [], [], within)[0])

    def send(self, number: int) -> None:
        """Send a signal. Until `wait`, the process is there, if only as a zombie."""
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        """The end; after `TOO_LONG`, by force."""
        if not self.over(TOO_LONG):
            self.send(signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self._end)
        said = self._log.read_text(errors="replace")
        self._log.unlink()
        return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - self._begin)


def _run(stage: str, code: Path | None) -> None:
    """Run a stage of the project that is loaded, or of a copy: its modules are then loaded anew, from there."""
    if code:
        for name in [name for name in sys.modules if name.split(".")[0] in ("captioning", "stages")]:
            del sys.modules[name]
        sys.path.insert(0, str(code))
    import_module("stages").run(stage)


def _watch(folder: Path, moment: int, act: Act) -> list[int]:
    """Count each change under `folder` from now on, before it is made; act at the one numbered `moment`."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and arguments[2] is not None and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in _CHANGES) or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        if isinstance(path, str) and (not path.startswith(os.sep) or path.startswith(str(folder))):
            count[0] += 1
            if count[0] == moment:
                act()

    sys.addaudithook(hook)
    return count

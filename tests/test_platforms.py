"""The library can be imported where modules and functions of Unix are missing, and asks there whether processes run."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from captioning.system import compute
from tests.imports import ROOT

# Other libraries are loaded first: what they do elsewhere is theirs. Then all that is of Unix alone goes away.
ELSEWHERE = """
import ctypes, importlib, os, pkgutil, signal, sys
import captioning, stages

MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
OF_OS = ("fork", "forkpty", "geteuid", "getuid", "getloadavg", "killpg", "mkfifo", "nice", "register_at_fork",
         "sched_getaffinity", "sched_setaffinity", "setpgid", "setsid", "statvfs", "sysconf", "uname", "wait3", "wait4")
OF_SIGNAL = ("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1",
             "SIGUSR2", "alarm", "pthread_sigmask", "setitimer", "sigwait")
ON_MACOS = ("sched_getaffinity", "sched_setaffinity")

def ours():
    for package in (captioning, stages):
        yield from (module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))

def library(name, *_, **__):
    if name is None and sys.platform == "win32":
        raise TypeError("argument of type 'NoneType' is not iterable")  # what Windows' Python says
    return object()  # a C library without functions of glibc

names = list(ours())
for name in names:
    importlib.import_module(name)
for name in names:
    del sys.modules[name]
sys.platform = sys.argv[1]
ctypes.CDLL = library
if sys.platform == "win32":
    sys.modules.update(dict.fromkeys(MODULES))
for module, gone in ((os, OF_OS), (signal, OF_SIGNAL)):
    for name in gone if sys.platform == "win32" else ON_MACOS:
        vars(module).pop(name, None)
for name in names:
    importlib.import_module(name)
from captioning.system import compute
from captioning.training.tracking.live import peak_memory
compute._keep_memory()
print(len(names), compute.cores() > 0, sorted(peak_memory()), flush=True)
os._exit(0)  # other libraries may miss what is gone
"""


@pytest.mark.parametrize(("platform", "known"), [("win32", []), ("darwin", ["peak_memory_mib"])])
def test_every_module_is_imported_where_unix_is_missing(platform: str, known: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, platform], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1] == f"True {known}\n"


def test_one_module_alone_sends_signals_to_processes() -> None:
    """Where there are none, as on Windows, os.kill ends a process whatever the number."""
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    assert [path.name for path in sources if "os.kill" in path.read_text(encoding="utf-8")] == ["processes.py"]


class Kernel:
    """Windows' functions for processes 4 (another user's), 8 (runs) and 12 (has ended, somebody holds it)."""

    def __init__(self) -> None:
        self.error, self.handles = 0, list[int]()

    def OpenProcess(self, _access: int, _inherit: bool, process: int) -> int:  # noqa: N802
        self.error = {4: 5, 8: 0, 12: 0}.get(process, 87)
        self.handles += [] if self.error else [process]
        return 0 if self.error else process

    def WaitForSingleObject(self, handle: int, _milliseconds: int) -> int:  # noqa: N802
        return {8: 0x102, 12: 0}[handle]

    def CloseHandle(self, handle: int) -> None:  # noqa: N802
        self.handles.remove(handle)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Kernel]:
    """The module as Windows reads it, and a stand-in for Windows."""
    kernel = Kernel()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: kernel.error, raising=False)
    module = ModuleType("processes")
    source = Path(compute.__file__).with_name("processes.py").read_text(encoding="utf-8")
    exec(compile(source, "processes.py", "exec"), vars(module))
    return module, kernel


def test_windows_is_asked_for_a_process_and_never_told_to_end_it(
    monkeypatch: pytest.MonkeyPatch, windows: tuple[ModuleType, Kernel]
) -> None:
    def kill(*_: object) -> None:
        raise AssertionError("os.kill ends a process on Windows")

    monkeypatch.setattr(os, "kill", kill)
    module, kernel = windows
    runs: Callable[[int], bool] = module.another_runs
    assert [process for process in (4, 8, 12, 16, os.getpid()) if runs(process)] == [4, 8]
    assert kernel.handles == []

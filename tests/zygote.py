"""Stages without their start: a process that has loaded the libraries, and forks for each `python -m stages …`.

Loading torch and what goes with it takes longer than a stage of a tiny pipeline. So tests have another `python`,
another `captioning` and another `dvc` first in PATH. For a stage, or a command, they ask this process for a fork, which
gets their folder, environment and streams, and loads the project's code then; for all else `python` becomes Python.
What starts DVC's queue is not served so: its workers outlive the command.
Signals are handed on, and whoever is killed takes the fork along. That a stage does the same in a process of its own is
what `test_the_same_bytes_under_other_limits` shows.
"""

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

_LIBRARIES = (
    "torch torchvision lightning_fabric numpy pandas PIL.PngImagePlugin PIL.JpegImagePlugin yaml pydantic nltk "
    "safetensors.torch dvclive tqdm requests dvc.cli.parser dvc.repo dvc.repo.reproduce dvc.repo.experiments "
    "dvc.repo.plots dvc.stage.run dvc.output dvc.dependency dvc_data.index dvc_data.hashfile.build pycocotools.coco "
    "dvc.repo.index dvc.repo.experiments.run dvc.repo.experiments.queue.celery dvc.repo.experiments.executor.local "
    "dvc.utils.hydra dvc.utils.strictyaml dvc.repo.artifacts dvc.repo.datasets dvc.repo.stage dvc.data_cloud networkx "
    "dulwich.porcelain scmrepo.git.backend.pygit2.filter celery.app.task hydra lightning_fabric.fabric"
)
_PINNED = ("OMP_", "GOMP_", "MKL_", "ATEN_", "DNNL_", "ONEDNN_", "CUBLAS_")  # what `compute.pin` sets before torch
_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
arguments = sys.argv[1:]
name = os.path.basename(sys.argv[0])
if name == "captioning" and "predict" in arguments and "data/train/model" not in arguments:  # other arithmetic, perhaps
    os.execv({python!r}, [{python!r}, "-c", "from captioning.cli import main; main()", *arguments])
elif name == "captioning" or (name == "dvc" and not {{"start", "queue-worker", "exec-run"}} & set(arguments)):
    module = name
elif name == "dvc":
    os.execv({python!r}, [{python!r}, "-m", "dvc", *arguments])
elif len(arguments) == 3 and arguments[:2] == ["-m", "stages"]:
    module, arguments = "stages", arguments[2:]
elif arguments and os.path.basename(arguments[0]) == "recorder.py":
    module, arguments = arguments[0], arguments[1:]
else:
    os.execv({python!r}, [{python!r}, *arguments])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
asked = dict(module=module, arguments=arguments, folder=os.getcwd(), environment=dict(os.environ))
asked = json.dumps(asked).encode()
socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
server.sendall(asked)
status = int(server.recv(16).decode() or 1)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    """Leave a `python`, a `captioning` and a `dvc` in `folder` that start this way, while the context lasts."""
    folder.mkdir()
    address = str(folder / "socket")
    for name in ("python", "captioning", "dvc"):
        client = folder / name
        client.write_text(_CLIENT.format(python=sys.executable, address=address))
        client.chmod(client.stat().st_mode | stat.S_IXUSR)
    with subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            server.kill()


def _serve(address: str) -> None:
    """Fork for each client, for ever. Returns in the forks only, where the stage's module has been run."""
    for name in _LIBRARIES.split():
        import_module(name)
    gc.freeze()  # else each fork goes through all of it
    selector = selectors.DefaultSelector()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        selector.register(listener, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not listener:
                    if selector.get_map().get(key.fd) == key:  # not ended a moment ago
                        key.data.look(key.fd, selector)
                    continue
                client, _ = listener.accept()
                size, streams, *_ = socket.recv_fds(client, 4, 3)
                asked = json.loads(client.makefile("rb").read(int.from_bytes(size, "big")))
                child = os.fork()
                if child:
                    _Run(client, child, selector)
                    for stream in streams:
                        os.close(stream)
                    continue
                for held in [client, *(key.fileobj for key in selector.get_map().values())]:
                    os.close(held) if isinstance(held, int) else held.close()  # type: ignore[attr-defined]
                selector.close()
                return _become(streams, **asked)


class _Run:
    """A fork: signals are handed on to it, and its status back; it is killed when the client is gone."""

    def __init__(self, client: socket.socket, child: int, selector: selectors.BaseSelector) -> None:
        self._client, self._child, self._ended = client, child, os.pidfd_open(child)
        for source in (client, self._ended):
            selector.register(source, selectors.EVENT_READ, self)

    def look(self, source: int, selector: selectors.BaseSelector) -> None:
        """Do what the client, or the end of the fork, asks for."""
        if source != self._ended:
            signals = self._client.recv(16)
            for number in signals or [signal.SIGKILL]:
                os.kill(self._child, number)
            if signals:
                return
        _, status = os.waitpid(self._child, 0)
        with suppress(OSError):  # the client is gone
            self._client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        for fd in (self._client, self._ended):
            selector.unregister(fd)
        self._client.close()
        os.close(self._ended)


def _become(streams: list[int], module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a stage's module as `python -m` does, there; or a file as `python` does; or a command as its script does."""
    gc.disable()  # none of them lives long
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    pinned = {name: value for name, value in os.environ.items() if name.startswith(_PINNED)}
    os.environ.clear()
    os.environ.update(environment | ({} if module == "dvc" else pinned))
    os.chdir(folder)
    sys.argv = [module, *arguments]
    sys.path[0] = folder
    if module.endswith(".py"):
        runpy.run_path(module, run_name="__main__")
    elif module == "stages":
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        del sys.path[0]
        if module == "dvc":
            _read_locks_quickly()
        sys.exit(import_module({"captioning": "captioning.cli", "dvc": "dvc.cli"}[module]).main())


def _read_locks_quickly() -> None:
    """DVC reads dvc.lock before it writes it, comments and all, in Python: a third of its time. There are none."""
    yaml = import_module("dvc.utils.serialize._yaml")
    thorough = yaml.parse_yaml_for_update
    yaml.parse_yaml_for_update = lambda text, path: (
        yaml.parse_yaml(text, path) if Path(path).name == "dvc.lock" else thorough(text, path)
    )


def _leave(left: SystemExit | None) -> NoReturn:
    """As the interpreter ends, but for taking apart all that was loaded."""
    status = 0 if left is None or left.code is None else left.code
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        _serve(sys.argv[1])
    except SystemExit as left:
        _leave(left)
    _leave(None)

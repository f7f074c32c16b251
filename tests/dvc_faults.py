"""Commands of DVC are killed with all that they started, and given again.

Whatever has the name of an object in DVC's cache must be that object, since DVC does not look again.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import md5
from itertools import cycle, islice
from pathlib import Path

import yaml

from tests.damage import MissedError
from tests.forks import Run
from tests.project import Project
from tests.trees import difference, tree

EXPERIMENT = ("dvc", "exp", "run", "-S", "train.optimizer.lr=0.001")
SUITE, RUNS = "killed", {"question": "Does it end?", "runs": {"only": {"train.optimizer.lr": 0.001}}}
_MARK = "FAULT_NUMBER"  # in the environment of a command, and of all that it starts
_OF_DVC = re.compile(r"/(\.gitignore|\.[\w-]{22}\.tmp)$")
_LOOK_S = 0.05  # between two looks at all processes
REMEDIES = {  # what DVC says where it was killed in the middle of a file of its own or git's, and what to remove then
    "Unable to read RWLock-file": ".dvc/tmp/rwlock",
    "the index is locked": ".git/index.lock",
}


class Pipeline:
    """A tiny project whose pipeline has run, an experiment in it, and how long each command takes when nobody kills it.

    home: where projects have their commands. settings: a params.yaml.
    """

    def __init__(self, folder: Path, home: Path, settings: Path) -> None:
        self._folder, self._home, self._cases = folder, home, 0
        self._fresh = Project.create(folder / "repository", self._home)
        (self._fresh.folder / "params.yaml").write_text(settings.read_text())
        (self._fresh.folder / f"experiments/{SUITE}.yaml").write_text(yaml.safe_dump(RUNS))
        self._commit(self._fresh)
        self._done = self._copy(self._fresh)
        self._seconds = {"repro": self._timed(self._done, "dvc", "repro")}
        self._commit(self._done)
        experiment = self._copy(self._done)
        self._seconds["exp run"] = self._timed(experiment, *EXPERIMENT)
        self._seconds["queue"] = 3 * self._seconds["exp run"]
        locks = {"repro": self._done, "commit": self._done, "exp run": experiment, "queue": experiment}
        self._locks = {name: project.read("dvc.lock") for name, project in locks.items()}
        self._trees = {"repro": _tree(self._done), "commit": _tree(self._done), "exp run": _tree(experiment)}
        self._emptied = self._copy(self._done)
        shutil.rmtree(self._emptied.folder / ".dvc/cache")
        self._events = self._count(self._emptied)

    def _copy(self, project: Project) -> Project:
        self._cases += 1
        folder = self._folder / "copies" / str(self._cases)
        shutil.copytree(project.folder, folder, symlinks=True)
        return Project(folder, self._home, **{_MARK: str(self._cases)})

    def _commit(self, project: Project) -> None:
        project.run("git", "add", "-A")
        project.run("git", "commit", "-qm", "as it is")

    def _timed(self, project: Project, *command: str) -> float:
        begin = time.monotonic()
        project.run(*command)
        return time.monotonic() - begin

    def _count(self, project: Project) -> int:
        copy = self._copy(project)
        run = Run(_dvc(copy, "commit", "--force"), copy.folder)
        ended = run.wait()
        assert ended.status == 0, ended.said
        return int(run.events.read_text())

    def repro(self, draw: random.Random) -> str:
        """`dvc repro`, in a clone: killed with its stage, or alone, and the stage lives on beside the repeated one."""
        return self._killed("repro", self._copy(self._fresh), draw, ("dvc", "repro"), alone=draw.random() < 0.5)

    def exp_run(self, draw: random.Random) -> str:
        """`dvc exp run`, with another setting."""
        return self._killed("exp run", self._copy(self._done), draw, EXPERIMENT)

    def queue(self, draw: random.Random) -> str:
        """An experiment in DVC's queue, whose workers outlive the command that starts them: they are killed too."""
        return self._killed("queue", self._copy(self._done), draw, ("captioning", "suite", "run", SUITE))

    def commit(self, draw: random.Random) -> str:
        """`dvc commit` into an empty cache, killed at one of its writes; the cache then gives the results back."""
        project = self._copy(self._emptied)
        ended = Run(_dvc(project, "commit", "--force"), project.folder, draw.randint(1, self._events)).wait()
        if ended.status == 0:
            raise MissedError
        wrong = self._again("commit", project, ("dvc", "commit", "--force"))
        if not wrong:
            shutil.rmtree(project.folder / "data")
            project.run("git", "checkout", "-q", "data")
            wrong = self._again("commit", project, ("dvc", "checkout", "--force"))
        shutil.rmtree(project.folder)
        return wrong

    def _killed(
        self, name: str, project: Project, draw: random.Random, command: Sequence[str], *, alone: bool = False
    ) -> str:
        """Kill a command at a time by the clock, and give it again. alone: what it started lives on."""
        log = project.folder.with_suffix(".log")
        try:
            with log.open("w") as stream:
                started = subprocess.Popen(
                    command, cwd=project.folder, env=project.environment, stdout=stream, stderr=stream
                )
                with suppress(subprocess.TimeoutExpired):
                    started.wait(draw.uniform(0, self._seconds[name]))
                if started.poll() is not None:
                    raise MissedError
                if alone:
                    started.kill()
                else:
                    _kill_all(project.environment[_MARK])
                started.wait()
            return self._again(name, project, command)
        finally:
            _kill_all(project.environment[_MARK])  # the queue's worker waits for more
            shutil.rmtree(project.folder)

    def _again(self, name: str, project: Project, command: Sequence[str]) -> str:
        """Give the command again; what is wrong then, in the results or in DVC's cache."""
        done = project.run(*command, check=False)
        for text, path in REMEDIES.items():
            if text in done.stderr:
                print(f"dvc {name}: `{text}`, then after `rm {path}`:", flush=True)
                (project.folder / path).unlink()
                done = project.run(*command, check=False)
        if done.returncode:
            return f"repeated: {done.stdout[-800:]}{done.stderr[-1500:]}"
        queued = name == "queue"
        lock = _lock_of(project, f"{SUITE}-only") if queued else project.read("dvc.lock")
        wrong = "" if queued else difference(_tree(project), self._trees[name])
        wrong = wrong or ("" if lock == self._locks[name] else "dvc.lock is another one")
        return wrong or damaged(project.folder / ".dvc/cache/files/md5")


def _tree(project: Project) -> dict[str, str]:
    """The results, and unfinished work, without DVC's own files: .gitignore, and temporary ones that it left."""
    return {name: value for name, value in tree(project.folder).items() if not _OF_DVC.search(name)}


def _lock_of(project: Project, experiment: str) -> str:
    """The dvc.lock of an experiment: the digests of its settings, code and results."""
    names = project.run("git", "for-each-ref", "--format=%(objectname)", f"refs/exps/*/*/{experiment}").stdout.split()
    return project.run("git", "show", f"{names[0]}:dvc.lock").stdout if names else ""


def damaged(cache: Path) -> str:
    """Objects of DVC's cache that are not what their names say; empty: none."""
    objects = [path for path in cache.glob("??/[!.]*") if path.is_file()]
    wrong = [path for path in objects if md5(path.read_bytes()).hexdigest() != (path.parent.name + path.stem)]
    return ", ".join(f"cache/{path.parent.name}/{path.name} is damaged" for path in wrong)


def _dvc(project: Project, *arguments: str) -> Callable[[], None]:
    """A command of DVC, for a fork of this process, which has loaded it."""

    def work() -> None:
        from dvc.cli import main

        os.environ.clear()
        os.environ.update(project.environment)
        if status := main(list(arguments)):
            raise SystemExit(status)

    return work


def _kill_all(mark: str) -> None:
    """Kill every process whose environment has the mark, until two looks find none: they start others meanwhile."""
    looks = 0
    while looks < 2:
        processes = _marked(mark)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        looks = 0 if processes else looks + 1
        time.sleep(_LOOK_S)


def _marked(mark: str) -> list[int]:
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


COMMANDS = ("repro", "exp run", "queue", "commit")


def works(
    folder: Path, home: Path, settings: Path, count: int, commands: Sequence[str]
) -> list[tuple[str, str, Callable[[random.Random], str]]]:
    """So many faults of these commands, or of all if none is named: the command, the kind of fault, what causes it."""
    pipeline = Pipeline(folder, home, settings)
    causes = {"repro": pipeline.repro, "exp run": pipeline.exp_run, "queue": pipeline.queue, "commit": pipeline.commit}
    chosen = islice(cycle(commands or COMMANDS), count)
    return [
        (f"dvc {name}", "killed_at_a_write" if name == "commit" else "killed_by_the_clock", causes[name])
        for name in chosen
    ]

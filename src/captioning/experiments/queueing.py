"""The runs of a suite in DVC's own queue: what is done, what is not, queue, start, wait, stop.

Each run starts from the commit HEAD, as it is there: `Queue` refuses to add one while files that the pipeline reads
differ from that commit, since DVC would take the changes along.
"""

import io
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.repo import Repo
from dvc.repo.experiments.exceptions import UnresolvedRunningExpNamesError
from dvc.repo.experiments.queue.exceptions import CannotKillTasksError
from dvc.repo.experiments.utils import exp_refs_by_baseline
from dvc.scm import NoSCM, SCMError

from captioning.experiments.revisions import Revision
from captioning.experiments.suites import Run
from captioning.system.errors import UserError, reason
from captioning.system.files import read_json, scratch, write_json
from captioning.system.processes import another_runs

_HARMLESS = ("docs/", "experiments/")  # not read by the pipeline
_EXAMPLES = 3
_RAN = "Running stage"  # what DVC prints of a stage that it does not find in its cache
_EPOCH = re.compile(r"epoch (\d+)/(\d+):")  # of the bar that `train` prints
_TAIL = 20_000  # bytes of a log in which that bar is looked for: the newest
THREADS = "compute.threads"
_PAUSE_S = 1.0  # between two looks at the queue
_PATIENCE = 20  # looks at a queue in which nothing runs, before its workers are started again


def _end_of(log: Path) -> str:
    """The last part of a log, which may grow meanwhile."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        return stream.read().decode(errors="replace")


class State(StrEnum):
    """Where a run is. `stopped`: its process is gone and left nothing."""

    done = "done"
    running = "running"
    queued = "queued"
    stopped = "stopped"
    failed = "failed"
    missing = "missing"


@contextmanager
def open_queue() -> Iterator["Queue"]:
    """The queue of the repository in the working folder. Raises UserError as `open_repository`."""
    with open_repository() as repo:
        yield Queue(repo)


@contextmanager
def open_repository() -> Iterator[Any]:
    """DVC's repository in the working folder. Raises UserError where there is none, or no commit."""
    try:
        with Repo() as repo:
            if isinstance(repo.scm, NoSCM) or repo.scm.no_commits:
                raise UserError("experiments start from a commit, and there is none here: `git init`, `git commit`")
            yield repo
    except NotDvcRepoError:
        raise UserError("this folder is not in a DVC repository; run in the project's folder") from None
    except (DvcException, SCMError) as fault:
        raise UserError(f"DVC: {reason(fault)}") from fault


class Queue:
    """DVC's queue, seen from the commit HEAD."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self._tasks = repo.experiments.celery_queue
        self.baseline: str = repo.scm.get_rev()

    def head(self) -> Revision:
        """The commit that every run starts from."""
        return Revision("HEAD", self.baseline)

    def done(self) -> dict[str, str]:
        """The commits of HEAD's finished experiments, by name."""
        refs = exp_refs_by_baseline(self._repo.scm, {self.baseline}).get(self.baseline, [])
        return {ref.name: self._repo.scm.get_ref(str(ref)) for ref in refs}

    def states(self, runs: Iterable[Run]) -> dict[str, State]:
        """Where each run is, by name."""
        queued = [entry for entry in self._tasks.iter_queued() if self._is_ours(entry)]
        active = [entry for entry in self._tasks.iter_active() if self._is_ours(entry)]
        failed = [entry for entry, _ in self._tasks.iter_failed() if self._is_ours(entry)]
        found = {entry.name: State.failed for entry in failed}
        found |= {entry.name: State.queued for entry in queued}
        found |= {entry.name: State.running if self._lives(entry) else State.stopped for entry in active}
        found |= dict.fromkeys(self.done(), State.done)  # read last: what ends meanwhile is not missed
        return {run.name: found.get(run.name, State.missing) for run in runs}

    def add(self, run: Run, threads: int | None = None) -> None:
        """Queue a run, from HEAD; threads: its `compute.threads`, if that is not to be the one at HEAD.

        Raises UserError when the workspace differs from HEAD in what the pipeline reads.
        """
        self.check_clean()
        self._forget([run.name])
        set_threads = [] if threads is None else [f"{THREADS}={threads}"]
        with redirect_stdout(io.StringIO()):  # DVC says of each what it queues
            self._repo.experiments.run(queue=True, name=run.name, params=[*run.arguments, *set_threads])

    def check_clean(self) -> None:
        """Raise UserError, with examples, when tracked files differ from HEAD in what the pipeline reads."""
        printed = subprocess.run(
            ["git", "diff", "--name-only", "HEAD"], cwd=self._repo.root_dir, capture_output=True, text=True, check=True
        )
        changed = [name for name in printed.stdout.splitlines() if not name.startswith(_HARMLESS)]
        if changed:
            raise UserError(
                f"every run starts from the last commit, and {len(changed)} files differ from it, such as "
                f"{', '.join(changed[:_EXAMPLES])}: commit them, or `git restore --staged --worktree . && dvc checkout`"
            )

    def start(self, jobs: int) -> None:
        """Start so many workers, unless they work already. They take whatever is in the queue."""
        if shutil.which("dvc") is None:
            raise UserError("`dvc` is not on the PATH, but the queue's workers need it: source .venv/bin/activate")
        command = ["dvc", "queue", "start", "--jobs", str(jobs)]
        with tempfile.TemporaryFile() as said:  # no pipe: the workers would keep it open, and this would wait for them
            done = subprocess.run(command, cwd=self._repo.root_dir, stdout=said, stderr=said)
            said.seek(0)
            text = " ".join(said.read().decode(errors="replace").split())
        if done.returncode:
            raise UserError(f"`{' '.join(command)}` failed: {text}")

    def wait(
        self,
        runs: list[Run],
        jobs: int,
        changed: Callable[[str, State], None],
        looked: Callable[[dict[str, State]], None] = lambda _: None,
    ) -> dict[str, State]:
        """Wait until two looks find no run queued or running; returns the last states.

        changed: called with each change of a run's state; looked: with all states, after each look.
        """
        before: dict[str, State] = {}
        started: dict[str, float] = {}
        idle = 0
        while True:
            states = self.states(runs)
            for name, state in states.items():
                if before.get(name) is state:
                    continue
                changed(name, state)
                if state is State.running and before.get(name) is State.queued:
                    started[name] = time.monotonic()
                elif state is State.done and name in started:
                    write_json(self._time_of(name), round(time.monotonic() - started[name], 1))
            looked(states)
            if states == before and not {State.queued, State.running} & set(states.values()):
                return states
            before = states
            idle = 0 if State.running in states.values() else idle + 1
            if idle and idle % _PATIENCE == 0:
                self.start(jobs)
            time.sleep(_PAUSE_S)

    def stop(self, runs: list[Run]) -> None:
        """Take back the runs that wait, interrupt those that run, and let the queue's workers go.

        An interrupted run is `missing` afterwards, not failed; its checkpoints stay, so that it goes on where it was.
        """
        states = self.states(runs)
        self._forget([name for name, state in states.items() if state is State.queued])
        self._tasks.celery.control.shutdown()
        told: set[str] = set()
        while running := {name for name, state in self.states(runs).items() if state is State.running}:
            for name in running - told:
                try:
                    with redirect_stdout(io.StringIO()):
                        self._tasks.kill([name])
                    told.add(name)
                except (CannotKillTasksError, UnresolvedRunningExpNamesError):
                    continue  # it is about to start, or has just ended: look again
            time.sleep(_PAUSE_S)
        self._forget(told)

    def seconds(self, name: str) -> float | None:
        """How long a finished run took, as `wait` saw it, to a second or two.

        None where nobody waited from its start to its end, or DVC had all of it in its cache, so that nothing ran.
        """
        log, kept = self._log(name, self._tasks.iter_success()), self._time_of(name)
        if log is None or _RAN not in log.read_text(errors="replace") or not kept.exists():
            return None
        return float(read_json(kept))

    def epoch(self, name: str) -> tuple[int, int] | None:
        """The epoch, from 1, that a running run trains, and how many it has; None before its training begins."""
        log = self._log(name, ((entry, None) for entry in self._tasks.iter_active()))
        found = _EPOCH.findall(_end_of(log)) if log else []
        return (int(found[-1][0]), int(found[-1][1])) if found else None

    def _time_of(self, name: str) -> Path:
        return scratch("suites") / f"{self.baseline[:12]}-{name}.json"

    def complaint(self, name: str) -> str:
        """What a failed run said last: its first line that begins with `error`, else its last line."""
        log = self._log(name, self._tasks.iter_failed())
        lines = log.read_text(errors="replace").strip().splitlines() if log else []
        said = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        return said[0] if said else "nothing was printed"

    def _log(self, name: str, ended: Iterable[Any]) -> Path | None:
        """The newest log of an experiment of HEAD, among tasks that ended."""
        entries = [entry for entry, _ in ended if entry.name == name and self._is_ours(entry)]
        processes = [self._tasks.proc.get(entry.stash_rev) for entry in entries]
        logs = [log for process in processes if process and (log := Path(process.stdout)).exists()]
        return max(logs, key=lambda log: log.stat().st_mtime, default=None)

    def _forget(self, names: Iterable[str]) -> None:
        """Take entries of these names that wait, failed or were lost out of the queue."""
        wanted = set(names)
        lost = [entry.name for entry in self._tasks.iter_active() if entry.name in wanted and not self._lives(entry)]
        if lost:
            with redirect_stdout(io.StringIO()):
                self._tasks.kill(lost)  # marks a task without a process as failed
        entries = [*self._tasks.iter_queued(), *(entry for entry, _ in self._tasks.iter_failed())]
        revisions = [entry.stash_rev for entry in entries if entry.name in wanted and self._is_ours(entry)]
        if revisions:
            self._tasks.remove(revisions)

    def _is_ours(self, entry: Any) -> bool:
        return bool(entry.baseline_rev == self.baseline)

    def _lives(self, entry: Any) -> bool:
        """Whether an entry that the queue calls active has a process, or is about to have one."""
        process = self._tasks.proc.get(entry.stash_rev)
        return process is None or process.returncode is not None or another_runs(process.pid)

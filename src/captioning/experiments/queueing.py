"""The runs of a suite in DVC's own queue: what is done, what is not, queue, start, wait, stop.

Each run starts from the commit HEAD, as it is there: `Queue` refuses to add one while files that the pipeline reads
differ from that commit, since DVC would take them along. All of it goes through DVC's commands. One takes seconds, so
`Queue` asks again only when something can have changed: DVC leaves a log beside the number of each run's process.
`dvc exp show` would say more, but it opens the folders of running experiments, and hangs when one ends meanwhile.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from captioning.experiments.commands import commit, dvc, git, repository
from captioning.experiments.revisions import Revision
from captioning.experiments.suites import Run
from captioning.experiments.unread import RESTORE
from captioning.system.errors import UserError
from captioning.system.files import read_json, scratch, write_json
from captioning.system.processes import another_runs

_NOT_READ = ("docs/", "experiments/")  # not read by the pipeline
_EXAMPLES = 3
_RAN = "Running stage"  # what DVC prints of a stage that it does not find in its cache
_EPOCH = re.compile(r"epoch (\d+)/(\d+):")  # of the bar that `train` prints
_TASK = re.compile(r"^([0-9a-f]{7,})\s+(\S+)\s.*\b(Queued|Running|Success|Failed)\s*$", re.MULTILINE)
_NO_WORKER = "Worker status: 0 active, 0 idle"
_GONE_AFTER = 2  # polls in a row without a worker: one that has just started may not answer yet
_RUNS = ".dvc/tmp/exps/run"  # a folder for each task: its log, and the record of its process
_TAIL = 20_000  # bytes of a log in which that bar is looked for: the newest
THREADS = "compute.threads"
_PAUSE_S = 1.0  # between two looks at processes and logs
_POLL_S = 3.0  # until DVC is asked again, while runs are about to start or to end
_RESTART_AFTER = 7  # such questions while fewer run than may, before workers are started again


class State(StrEnum):
    """Where a run is. `stopped`: its process is gone and left nothing. `stale`: its scores are another setting's."""

    done = "done"
    stale = "stale"
    running = "running"
    queued = "queued"
    stopped = "stopped"
    failed = "failed"
    missing = "missing"


class Entry(NamedTuple):
    """A task of DVC's queue, of HEAD. `revision`: digits of its stash commit. `process`: None until it has started."""

    name: str
    revision: str
    state: State
    process: int | None = None
    log: Path | None = None

    @property
    def ended(self) -> bool:
        """Is there no such process any more?"""
        return self.process is not None and not another_runs(self.process)


class Queue:
    """DVC's queue, seen from the commit HEAD. Raises UserError where there is no repository, or no commit."""

    def __init__(self) -> None:
        self._root = repository()
        self.baseline: str = git("rev-parse", "HEAD").strip()
        self._entries: list[Entry] | None = None
        self._waiting: dict[str, float] = {}  # when each run was last known not to have begun
        self._workerless = 0  # such polls in a row

    def head(self) -> Revision:
        """The commit that every run starts from."""
        return Revision("HEAD", self.baseline)

    def poll(self) -> list[Entry]:
        """Ask DVC for the tasks of HEAD."""
        printed = dvc("queue", "status")
        self._workerless = self._workerless + 1 if _NO_WORKER in printed else 0
        self._entries = [self._entry(*task) for task in _TASK.findall(printed) if self._is_ours(task[0])]
        return self._entries

    def done(self) -> dict[str, str]:
        """The commits of HEAD's finished experiments, by name."""
        prefix = f"refs/exps/{self.baseline[:2]}/{self.baseline[2:]}/"
        lines = git("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
        return {name.removeprefix(prefix): sha for sha, _, name in (line.partition(" ") for line in lines)}

    def states(self, runs: Iterable[Run]) -> dict[str, State]:
        """Where each run is, by name."""
        order = (State.failed, State.queued, State.stopped, State.running)  # of several of a name, the last one counts
        states = {entry.name: entry.state for state in order for entry in self._polled() if entry.state is state}
        states |= dict.fromkeys(self.done(), State.done)  # read last: a run that ends meanwhile is not missed
        return {run.name: states.get(run.name, State.missing) for run in runs}

    def add(self, run: Run, threads: int | None = None) -> None:
        """Queue a run, from HEAD; threads: its `compute.threads`, if that is not to be the one at HEAD.

        Raises UserError when the workspace differs from HEAD in what the pipeline reads.
        """
        self.check_clean()
        self._forget([run.name])
        settings = [*run.arguments, *([] if threads is None else [f"{THREADS}={threads}"])]
        options = [part for setting in settings for part in ("--set-param", setting)]
        dvc("exp", "run", "--queue", "--name", run.name, *options)
        self._waiting[run.name] = time.monotonic()
        self._entries = None

    def check_clean(self) -> None:
        """Raise UserError, with examples, when tracked files differ from HEAD in what the pipeline reads.

        Files of a larger git repository, outside of the working folder, do not count.
        """
        printed = git("diff", "--name-only", "--relative", "-z", "HEAD")
        changed = [name for name in printed.split("\0") if name and not name.startswith(_NOT_READ)]
        if changed:
            raise UserError(
                f"every run starts from the last commit, and {len(changed)} files differ from it, such as "
                f"{', '.join(changed[:_EXAMPLES])}: commit them, or `git restore --staged --worktree . && dvc checkout`"
            )

    def start(self, jobs: int) -> None:
        """Start so many workers, unless they work already. They take whatever is in the queue."""
        self._waiting = dict.fromkeys(self._waiting, time.monotonic())
        _start(jobs)

    def wait(
        self,
        runs: list[Run],
        jobs: int,
        changed: Callable[[str, State], None],
        polled: Callable[[dict[str, State]], None] = lambda _: None,
    ) -> dict[str, State]:
        """Wait until DVC says twice that no run is queued or running; returns the last states.

        Workers that ended are started again: one may have read a message of the queue before all of it was written.

        changed: called with each change of a run's state; polled: with all states, each second.
        """
        previous: dict[str, State] = {}
        idle = 0
        while True:
            polled_at = time.monotonic()
            self.poll()
            states = self.states(runs)
            for name, state in states.items():
                if previous.get(name) is not state:
                    changed(name, state)
                if state is State.queued:
                    self._waiting[name] = polled_at
                elif state is State.done and name in self._waiting:
                    write_json(self._time_of(name), round(time.monotonic() - self._waiting.pop(name), 1))
            polled(states)
            if states == previous and not any(state in _UNFINISHED for state in states.values()):
                return states
            idle = idle + 1 if self._more_may_run(states, jobs) else 0
            if idle and idle % _RESTART_AFTER == 0:
                _start(jobs)
            self._pause(states, jobs, unchanged=states == previous, polled=polled)
            previous = states

    def _pause(
        self, states: dict[str, State], jobs: int, *, unchanged: bool, polled: Callable[[dict[str, State]], None]
    ) -> None:
        """Wait until DVC may have something new to say: at once if a run may start or has just changed its state.

        If all is as it was, and as many run as may, that is when a process ends; until then no other begins. Not every
        process is known at once.
        """
        running = [entry for entry in self._polled() if entry.state is State.running]
        steady = unchanged and all(entry.process for entry in running) and not self._more_may_run(states, jobs)
        begin = time.monotonic()
        while True:
            time.sleep(_PAUSE_S)
            polled(states)
            looked_at = time.monotonic()
            steady = steady and not any(entry.ended for entry in running)
            if steady:
                self._waiting |= {name: looked_at for name, state in states.items() if state is State.queued}
            elif looked_at - begin >= _POLL_S:
                return

    def _more_may_run(self, states: dict[str, State], jobs: int) -> bool:
        running = sum(entry.state is State.running for entry in self._polled())
        return running < min(jobs, sum(state in _UNFINISHED for state in states.values()))

    def stop(self, runs: list[Run]) -> None:
        """Take back the runs that wait, interrupt those that run, and let the queue's workers go.

        An interrupted run is `missing` afterwards, not failed; its checkpoints stay, so that it goes on where it was.
        """
        names = {run.name for run in runs}
        dvc("queue", "stop")  # first, so that no worker takes another run
        interrupted: set[str] = set()
        while running := [entry for entry in self.poll() if entry.name in names and entry.state is State.running]:
            for entry in running:
                if entry.process and not entry.ended and entry.revision not in interrupted:
                    self._interrupt(entry)
                    interrupted.add(entry.revision)
            time.sleep(_PAUSE_S)
        self._forget(names)

    def _interrupt(self, entry: Entry) -> None:
        try:
            dvc("queue", "kill", entry.revision)
        except UserError:
            if not entry.ended:  # else it has come to its end by itself
                raise

    def seconds(self, name: str) -> float | None:
        """How long a finished run took, as `wait` saw it, to a few seconds.

        None if `wait` did not see its start and its end, or DVC had all of it in its cache, so that nothing ran.
        """
        log, kept = self._log(name, State.done), self._time_of(name)
        if log is None or _RAN not in log.read_text(errors="replace") or not kept.exists():
            return None
        seconds = read_json(kept)
        return float(seconds) if isinstance(seconds, int | float) else None

    def epoch(self, name: str) -> tuple[int, int] | None:
        """The epoch, from 1, that a running run trains, and how many it has; None before its training begins."""
        log = self._log(name, State.running)
        epochs = _EPOCH.findall(_tail(log)) if log else []
        return (int(epochs[-1][0]), int(epochs[-1][1])) if epochs else None

    def error_line(self, name: str) -> str:
        """The error of a failed run: the first line of its log that begins with `error`, else the last line."""
        log = self._log(name, State.failed)
        lines = log.read_text(errors="replace").strip().splitlines() if log else []
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:]
        return errors[0] if errors else "nothing was printed"

    def _time_of(self, name: str) -> Path:
        return scratch("suites") / f"{self.baseline[:12]}-{name}.json"

    def _polled(self) -> list[Entry]:
        return self.poll() if self._entries is None else self._entries

    def _log(self, name: str, state: State) -> Path | None:
        """The newest log of an experiment of HEAD in this state."""
        logs = [entry.log for entry in self._polled() if entry.name == name and entry.state is state]
        existing = [log for log in logs if log is not None and log.exists()]
        return max(existing, key=lambda log: log.stat().st_mtime, default=None)

    def _forget(self, names: Collection[str]) -> None:
        """Take runs of these names that wait, failed or were stopped out of the queue."""
        entries = [entry for entry in self._polled() if entry.name in names]
        for entry in entries:
            if entry.state is State.stopped:
                dvc("queue", "kill", entry.revision)  # marks a task without a process as failed
        removable = (State.queued, State.failed, State.stopped)
        if revisions := [entry.revision for entry in entries if entry.state in removable]:
            dvc("queue", "remove", *revisions)
            self._entries = None

    def _is_ours(self, revision: str) -> bool:
        """Is a stash commit made from HEAD? One that git has cleared away counts as another's."""
        return commit(f"{revision}^1") == self.baseline

    def _entry(self, revision: str, name: str, word: str) -> Entry:
        records = sorted((self._root / _RUNS).glob(f"{revision}*/{revision}*.json"))
        record = read_json(records[0]) if records else {}
        if not isinstance(record, dict):
            raise UserError(
                f"{records[0]}: not the record of a process; remove the task with `dvc queue remove {name}`"
            )
        process, log = record.get("pid"), Path(record["stdout"]) if record.get("stdout") else None
        entry = Entry(name, revision, _STATES[word], process, log)
        gone = entry.ended if process is not None else self._workerless >= _GONE_AFTER  # killed before it began one
        lost = gone and entry.state is State.running and record.get("returncode") is None
        return entry._replace(state=State.stopped) if lost else entry


_UNFINISHED = (State.queued, State.running)
_STATES = {"Success": State.done, "Queued": State.queued, "Running": State.running, "Failed": State.failed}


def _start(jobs: int) -> None:
    dvc("queue", "start", "--jobs", str(jobs))


def threads_of(revision: Revision) -> int:
    """`compute.threads` of a revision. Raises UserError when its params.yaml has no such number."""
    section = revision.params.get("compute")
    threads = section.get("threads") if isinstance(section, dict) else None
    if not isinstance(threads, int) or threads < 1:
        raise UserError(f"{revision.name}: params.yaml has no number {THREADS}; {RESTORE}")
    return threads


def _tail(log: Path) -> str:
    """The last part of a log, which may grow meanwhile."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        return stream.read().decode(errors="replace")

"""How far a suite is: which run, which epoch, and about how long it will take."""

import time
from collections.abc import Callable, Sequence

from captioning.experiments.queueing import Queue, State
from captioning.experiments.suites import Run

_UNFINISHED = (State.queued, State.running)


class Progress:
    """Prints a line when a run changes its state, and when it begins an epoch.

    The time left is that of the runs that are not done, each taken to last as long as the mean of those that ended
    meanwhile; until one has ended, of the running ones by the share of their epochs that is behind them.
    """

    def __init__(
        self, queue: Queue, runs: Sequence[Run], jobs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queue, self._jobs, self._clock = queue, jobs, clock
        self._numbers = {run.name: number for number, run in enumerate(runs, start=1)}
        self._started: dict[str, float] = {}
        self._durations: list[float] = []  # seconds of each run that was watched from its start to its end
        self._epochs: dict[str, tuple[int, int]] = {}

    def changed(self, name: str, state: State) -> None:
        """A run is in another state."""
        now = self._clock()
        if state is State.running:
            self._started[name] = now
        elapsed = ""
        if state is State.done and name in self._started:
            self._durations.append(now - self._started[name])
            elapsed = f" after {duration(self._durations[-1])}"
        self._print(name, f"{state}{elapsed}")

    def polled(self, states: dict[str, State]) -> None:
        """All states, as they are now: new epochs are printed."""
        for name, state in states.items():
            epoch = self._queue.epoch(name) if state is State.running else None
            if epoch and epoch != self._epochs.get(name):
                self._epochs[name] = epoch
                self._print(name, f"epoch {epoch[0]} of {epoch[1]}{self._time_left(states)}")

    def _time_left(self, states: dict[str, State]) -> str:
        unfinished = [name for name, state in states.items() if state in _UNFINISHED]
        per_run = self._seconds_per_run()
        if per_run is None:
            return ""
        now = self._clock()
        spent = sum(min(now - self._started[name], per_run) for name in unfinished if name in self._started)
        left = (per_run * len(unfinished) - spent) / min(self._jobs, len(unfinished))
        return f", about {duration(left)} left for the suite"

    def _seconds_per_run(self) -> float | None:
        if self._durations:
            return sum(self._durations) / len(self._durations)
        now = self._clock()
        estimates = [
            (now - self._started[name]) * epochs / (epoch - 1)
            for name, (epoch, epochs) in self._epochs.items()
            if epoch > 1 and name in self._started
        ]
        return max(estimates, default=None)

    def _print(self, name: str, text: str) -> None:
        print(f"run {self._numbers[name]} of {len(self._numbers)}, {name}: {text}", flush=True)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as a person says them."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"

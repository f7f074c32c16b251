"""Scalars and images of a run, through DVCLive.

What the run computes goes to files that DVC versions, and is the same on every run. How fast it was and
how much memory it took is another thing each time: that goes to `logs/`, which nothing versions.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from dvclive.live import Live
from PIL import Image

from captioning.training.tracking import curves


def _live(folder: Path) -> Live:
    return Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None)


class Tracker:
    """Logs one row of scalars an epoch to `folder`, and one of speeds to `speeds`.

    `folder`/plots/curves has the scalars once more, as the tables that `dvc plots` draws.
    """

    def __init__(self, folder: Path, speeds: Path) -> None:
        self._results, self._speeds = _live(folder), _live(speeds)
        self._curves, self._history = folder / "plots/curves", list[Mapping[str, float]]()

    def epoch(self, scalars: Mapping[str, float], speeds: Mapping[str, float]) -> None:
        """Log a row to each, and go on to the next epoch."""
        self._history.append(scalars)
        curves.write(self._curves, self._history)
        for live, row in ((self._results, scalars), (self._speeds, speeds)):
            for name, value in row.items():
                live.log_metric(name, value)
            live.next_step()

    def image(self, name: str, image: Image.Image) -> None:
        """Log an image; one of the same name replaces it."""
        self._results.log_image(name, image)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for live in (self._results, self._speeds):
            live.end()


def summarise(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write `folder`/metrics.json: final scores, which have no step."""
    with _live(folder) as live:
        live.summary.update(summary)


def peak_memory() -> dict[str, float]:
    """`peak_memory_mib`: the most memory that this process held so far; on a GPU, the most held there.

    Empty on Windows, which has no such function.
    """
    if torch.cuda.is_available():
        return {"peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20}
    if sys.platform == "win32":
        return {}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}

"""The same scalars, settings and images to other trackers: those that `train.trackers` names.

Each is a file behind one seam, through its project's own client, which is an extra and is imported only when it is
switched on. A tracker that is not installed, or fails at any moment, is dropped with one line; the run goes on.
All write below `logs/` of the main repository, which nothing versions.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from dvc.utils.flatten import flatten
from PIL import Image

from captioning.system.errors import reason
from captioning.system.files import main_root
from captioning.training.tracking.base import Run
from captioning.training.tracking.mlflow import MLflow
from captioning.training.tracking.tensorboard import TensorBoard
from captioning.training.tracking.trackio import Trackio
from captioning.training.tracking.wandb import WandB


class _Sink(Protocol):
    """What a tracker does with a run that it began."""

    def scalars(self, epoch: int, row: Mapping[str, float]) -> None: ...

    def image(self, epoch: int, name: str, image: Image.Image) -> None: ...

    def end(self, well: bool) -> None: ...

    def where(self) -> str:
        """Where the run was written, and the command that shows it."""


_SINKS: dict[str, Callable[[Run], _Sink]] = {
    "mlflow": MLflow,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WandB,
}


class Trackers:
    """Logs to each tracker that still works."""

    def __init__(self, names: Sequence[str], run_name: str, settings: Mapping[str, Any]) -> None:
        self._sinks: dict[str, _Sink] = {}
        self._epoch = 0
        for name in dict.fromkeys(names):
            self._begin(name, Run(run_name, flatten(settings), main_root() / "logs"))

    def image(self, name: str, image: Image.Image) -> None:
        """Log an image of this epoch."""
        self._each(lambda sink: sink.image(self._epoch, name, image))

    def epoch(self, scalars: Mapping[str, float], speeds: Mapping[str, float]) -> None:
        """Log a row, and go on to the next epoch."""
        self._each(lambda sink: sink.scalars(self._epoch, {**scalars, **speeds}))
        self._epoch += 1

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._each(lambda sink: sink.end(kind is None))
        self._each(lambda sink: print(f"train.trackers: {sink.where()}", flush=True))

    def _begin(self, name: str, run: Run) -> None:
        try:
            self._sinks[name] = _SINKS[name](run)
        except ImportError as fault:
            _warn(f"{name} is not used ({_line(fault)}); to install it: pip install 'captioning[{name}]'")
        except Exception as fault:
            _warn(f"{name} is not used: {_line(fault)}")

    def _each(self, act: Callable[[_Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                act(sink)
            except Exception as fault:
                del self._sinks[name]
                _warn(f"{name} failed and is no longer used: {_line(fault)}")


def _line(fault: Exception) -> str:
    return f"{type(fault).__name__}: {reason(fault)}"[:300]


def _warn(text: str) -> None:
    print(f"warning: train.trackers: {text}", file=sys.stderr, flush=True)

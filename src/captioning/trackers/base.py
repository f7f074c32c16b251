"""What every tracker is told of a run when it begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """A run's name, its settings under dotted keys, and the folder below which trackers write."""

    name: str
    settings: Mapping[str, Any]
    logs: Path

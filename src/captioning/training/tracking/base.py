"""What every tracker receives when a run begins."""

import shlex
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


def shown(path: Path) -> str:
    """A path as a person types it in the working folder, quoted where a shell needs it."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))

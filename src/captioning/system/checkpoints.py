"""Training that was killed goes on: checkpoints in the scratch folder, under a key of all that decides the result.

Another setting, another line of code or other data make another key, so a checkpoint is never resumed by a
run that it does not belong to. A damaged one is not used. It is removed when the run has ended well.
"""

import io
import shutil
import sys
from typing import Any

import torch

from captioning.system.files import scratch
from captioning.system.sealed import DamagedError, read_binary, write_binary

_NAME = "checkpoint.pt"


class Checkpoint:
    """The last state of one run, in a folder of its own."""

    def __init__(self, key: str, stage: str = "train") -> None:
        self.key = key
        self._folder = scratch(stage) / key

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint: a kill, or a power cut, at any moment leaves the old one or the new one."""
        stream = io.BytesIO()  # on a full disk, torch's own writer does not say so
        torch.save(state, stream)
        write_binary(self._folder / _NAME, stream.getbuffer())

    def load(self) -> dict[str, Any] | None:
        """The last state, or None when there is none, or it is damaged, which is printed."""
        try:
            data = read_binary(self._folder / _NAME)
        except FileNotFoundError:
            return None
        except DamagedError as fault:
            print(f"{fault}; training begins anew", file=sys.stderr)
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        return state

    def clear(self) -> None:
        """Remove the checkpoint: the run has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

"""The encoder's initial weights, as the stage `weights` left them."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from captioning.system.errors import UserError, reason
from captioning.system.files import digest
from captioning.system.sealed import DamagedError, read_document

IMAGENET, NONE = "imagenet", "none"
_AGAIN = "run `dvc repro -f weights`"


def read_record(folder: Path) -> dict[str, Any]:
    """Where the weights in `folder` are from: kind, origin, sha256 of the file there, and of the one that is stored.

    Raises DamagedError unless both files in `folder` are those that the stage wrote.
    """
    record = read_document(folder / "weights.json", _AGAIN)
    path = folder / "weights.safetensors"
    if not path.is_file() or digest(path) != record["stored"]:
        raise DamagedError(f"{path}: not the file that weights.json describes; {_AGAIN}")
    return record


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights that the stage wrote, under their library's names; empty for an encoder that is drawn from the seed.

    Raises UserError when the file is missing or damaged.
    """
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise UserError(f"{path}: cannot be read ({reason(fault)}); {_AGAIN}") from None
    return state

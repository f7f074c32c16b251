"""State dicts that others wrote, read without running anything that is pickled in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from captioning.system.errors import UserError, reason


def read(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from .pth or .bin. Raises UserError where it is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a state dict (.pth or .safetensors)")
    try:
        state = _load(path)
    except Exception as fault:  # on malformed files, the readers raise whatever they stumble over
        message = reason(fault, first_line=True).partition(". ")[0]
        raise UserError(f"{path}: not a state dict ({message}); save `model.state_dict()`") from fault
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"{path}: not a state dict, whose values are all tensors; save `model.state_dict()`")
    return dict(state)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)

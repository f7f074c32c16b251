"""The encoder's initial weights, as the stage `weights` left them."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from captioning.system.errors import UserError, reason

IMAGENET, NONE = "imagenet", "none"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights that the stage wrote, under torchvision's names; empty for an encoder that is drawn from the seed.

    Raises UserError when the file is missing or damaged.
    """
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise UserError(f"{path}: cannot be read ({reason(fault)}); run `dvc repro weights`") from None
    return state

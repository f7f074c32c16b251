"""The encoder's weights: fetched or copied, checked, and left as safetensors for the later stages."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import models

from captioning.downloads import fetch
from captioning.encoders import build, check_name, transform_for
from captioning.errors import UserError
from captioning.files import atomic, digest

NONE, IMAGENET = "none", "imagenet"


def bring(encoder: str, weights: str, target: Path, *, source: Path | None, cache: Path, root: Path) -> dict[str, Any]:
    """Leave the weights of `encoder` in `target`, under torchvision's names; return where they came from.

    weights: `imagenet` (torchvision's published file, looked for in `source` first), `none` (an empty file:
    the network is drawn from the seed), or a path to a state dict, relative to `root`.
    Raises UserError when there is neither network nor file, or the weights do not fit the encoder.
    """
    check_name(encoder)
    if weights == NONE:
        _write(target, {})
        return {"kind": NONE}
    if weights == IMAGENET:
        file, record = _published(encoder, source, cache)
    else:
        file = root / weights
        record = {"kind": "file", "file": Path(weights).name}
    state = _read(file)
    build(encoder, transform=transform_for(encoder, None, pretrained=True), weights=state)  # raises if they do not fit
    _write(target, state)
    return record | {"sha256": digest(file)}


def _published(encoder: str, source: Path | None, cache: Path) -> tuple[Path, dict[str, Any]]:
    """torchvision's default weights. The last eight digits of the file's name begin its sha256."""
    choice = models.get_model_weights(encoder).DEFAULT
    url = choice.url
    name = url.rpartition("/")[2]
    prefix = name.removesuffix(".pth").rpartition("-")[2]
    fetched = fetch(
        url, cache / name, digest=f"sha256-prefix:{prefix}", source=source, cache=cache, subfolder="weights"
    )
    return cache / name, {"kind": IMAGENET, "name": str(choice), "file": name, "published": fetched.published}


def _read(path: Path) -> dict[str, Tensor]:
    """A state dict from .safetensors or .pth; nothing but tensors is ever unpickled."""
    if not path.is_file():
        raise UserError(f"features.weights = {path}: no such file; give a path to a state dict (.pth, .safetensors)")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as fault:
        raise UserError(f"{path}: not a plain state dict ({str(fault).splitlines()[0]})") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a plain state dict: save `model.state_dict()`")
    return dict(state)


def _write(target: Path, state: Mapping[str, Tensor]) -> None:
    plain = {name: tensor.detach().contiguous().clone() for name, tensor in sorted(state.items())}
    with atomic(target) as temporary:
        save_file(plain, temporary)


def read_weights(path: Path) -> dict[str, Tensor]:
    """What `bring` left: a state under torchvision's names, empty for an encoder that is drawn from the seed."""
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as fault:
        raise UserError(f"{path}: cannot be read ({fault}); run `dvc repro weights`") from None
    return state

"""The encoder's weights: fetched or read, checked against the encoder, and left as safetensors for later stages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from captioning.data.network.downloads import WEIGHTS, fetch_weights, find, take
from captioning.system import state_dicts
from captioning.system.errors import UserError
from captioning.system.files import digest, write_bytes
from captioning.vision.encoders import families
from captioning.vision.encoders.backbones import transform_for
from captioning.vision.encoders.encoders import build
from captioning.vision.encoders.weights import IMAGENET, NONE


def bring(encoder: str, weights: str, target: Path, *, source: Path | None, cache: Path, root: Path) -> dict[str, Any]:
    """Leave the weights of `encoder`, without its head, in `target`, and say where they are from.

    weights: `imagenet` (the file that the backbone's library publishes, looked for in `source` first), `none` (no
    tensor: the network is drawn from the seed), or a path to a state dict, relative to `root`.
    Returns kind (imagenet, none or file), origin (URL, path as given, or None) and the sha256 of that file.
    Raises UserError when there is neither network nor file, or the weights do not fit the encoder.
    """
    families.of(encoder)
    if weights == NONE:
        _write(target, {})
        return {"kind": NONE, "origin": None, "sha256": None}
    if weights == IMAGENET:
        file, record = _published(encoder, source, cache)
    else:
        file, record = root / Path(weights).expanduser(), {"kind": "file", "origin": weights}
    try:
        fitted = build(
            encoder, transform=transform_for(encoder, "native", pretrained=True), weights=state_dicts.read(file)
        )
    except UserError as fault:
        raise UserError(f"features.weights = {weights}: {fault}") from None
    _write(target, fitted.body.state_dict())
    return record | {"sha256": digest(file)}


def _published(encoder: str, source: Path | None, cache: Path) -> tuple[Path, dict[str, Any]]:
    """The file of the library's default weights."""
    preset = families.of(encoder).preset(encoder)
    target = cache / preset.file
    try:
        if preset.url is None:
            fetched = take(_given(encoder, preset.file, source), target)
        else:
            _, fetched = fetch_weights(preset.url, source=source, cache=cache, name=preset.file)
    except UserError as fault:
        raise UserError(f"{fault}; or give another state dict: features.weights = PATH") from None
    return target, {"kind": IMAGENET, "origin": fetched.origin}


def _given(encoder: str, file: str, source: Path | None) -> Path:
    """A file that the user has, of a backbone whose library publishes none that can be read as it is."""
    path = find(source, WEIGHTS, file)
    if path is None:
        raise UserError(
            f"features.weights = {IMAGENET}: none are published for {encoder} that can be read as they are; "
            f"put a state dict, {file}, into the folder named by download.source or CAPTIONING_SOURCE"
        )
    return path


def _write(target: Path, state: Mapping[str, Tensor]) -> None:
    write_bytes(target, save({name: tensor.contiguous() for name, tensor in sorted(state.items())}))

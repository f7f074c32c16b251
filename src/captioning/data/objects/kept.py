"""Tensors with a card: NAME.safetensors, and NAME.json, sealed, which has a record and the digest of the tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from captioning.system.errors import UserError, reason, shown
from captioning.system.files import digest, write_bytes
from captioning.system.sealed import DamagedError, read_document, write_document

_DIGEST = "weights"


def files(name: str) -> tuple[str, str]:
    """The names of the card and of its tensors."""
    return f"{name}.json", f"{name}.safetensors"


def write(folder: Path, name: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files into a folder that is there. The same content gives the same bytes."""
    card, weights = (folder / file for file in files(name))
    write_bytes(weights, save_tensors({key: tensors[key].contiguous() for key in sorted(tensors)}))
    write_document(card, {**record, _DIGEST: digest(weights)})


def read(folder: Path, name: str, remedy: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write` wrote: record and tensors. Raises UserError, which ends in `remedy`, for anything else."""
    card, weights = (folder / file for file in files(name))
    record = read_document(card, remedy)
    if not weights.is_file() or digest(weights) != record.pop(_DIGEST):
        raise DamagedError(f"{weights}: not the file that {card.name} describes; {remedy}")
    try:
        return record, load_file(weights)
    except SafetensorError as fault:
        raise UserError(f"{weights}: not a safetensors file ({shown(reason(fault))}); {remedy}") from None

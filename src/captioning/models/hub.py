"""Folders of other people's models: on this machine, or by name from the Hugging Face hub, into the hub's own cache.

Only weights in safetensors, JSON and text are fetched: neither pickles nor code.
"""

import re
from pathlib import Path

from huggingface_hub import errors, snapshot_download

from captioning.models.choice import OUTSIDE
from captioning.system.errors import UserError, reason, shown

_FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]
_IN_FOLDERS = "*/*"  # exports and checkpoints: not the model
_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")


def title(name: str, folder: Path) -> str:
    """What a person calls a model: its folder, or its name on the hub with the commit."""
    return f"{OUTSIDE}{name}" if is_folder(name) else f"{OUTSIDE}{name}, commit {folder.name[:7]}"


def is_folder(name: str) -> bool:
    """Is a model named by its folder, and not by its name on the hub?"""
    return bool(name) and Path(name).is_dir()


def fetch(name: str, files: list[str] | None = None) -> Path:
    """The folder of a model, as `name` or, where that is no folder, as the hub has it under OWNER/MODEL[@REVISION].

    files: patterns of the files that are needed; None: of all that a model may have.
    Raises UserError when there is no such model, or the hub cannot be reached and its cache has not got it.
    """
    if is_folder(name):
        return Path(name)
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise UserError(f"--model {OUTSIDE}{shown(name)}: no such folder, and no name of the Hugging Face hub")
    try:
        path = snapshot_download(
            parts["name"], revision=parts["revision"], allow_patterns=files or _FILES, ignore_patterns=[_IN_FOLDERS]
        )
    except Exception as fault:  # of HTTP, of names, of the cache: the libraries below have their own
        raise UserError(f"--model {OUTSIDE}{shown(name)}: no such folder, and {_why(fault)}") from fault
    return Path(path)


def _why(fault: Exception) -> str:
    """Why the hub gives no such model, and what to do."""
    if isinstance(fault, errors.GatedRepoError):
        return "the Hugging Face hub asks you to accept its terms first; do so there, then `hf auth login`"
    if isinstance(fault, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        return "the Hugging Face hub has no such model or revision, or it is private; check the name"
    if isinstance(fault, errors.HFValidationError):
        return "no name of the Hugging Face hub"
    first = reason(fault.__cause__ or fault, first_line=True)
    return (
        f"not to be had from the Hugging Face hub ({shown(first)}); copy the model's folder to this machine and name "
        f"it: --model {OUTSIDE}FOLDER"
    )

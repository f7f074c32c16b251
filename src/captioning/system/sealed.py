"""What the project wrote is read back as it was written: each such file comes with a digest.

    a table          `images.csv` has `images.sha256` beside it, as `sha256sum --check` reads it
    a JSON document  has the key `sha256`, the digest of the rest of it
    a binary file    begins with a line that has the digest of the rest

A file that is not what its digest says is damaged: a flipped bit, a cut, another program. Zip and npz files are not
written this way, since they have a checksum of each member.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioning.system.errors import UserError
from captioning.system.files import atomic, digest, read_json, write_json, write_text

_KEY = "sha256"
_HEADER = b"captioning sha256 %s\n"
_HEADER_SIZE = len(_HEADER % (b"0" * 64))


class DamagedError(UserError):
    """A file is not what was written, or what was written is not whole."""


def write_table(path: Path, text: str) -> None:
    """Write a text file, and its digest beside it. Between the two, the file counts as damaged."""
    write_text(path, text)
    write_text(_beside(path), f"{digest(path)}  {path.name}\n")


def check_table(path: Path, remedy: str) -> None:
    """Raise DamagedError, which ends in `remedy`, unless the file is what `write_table` wrote."""
    try:
        actual = f"{digest(path)}  {path.name}\n".encode()
        recorded = _beside(path).read_bytes()
    except FileNotFoundError as fault:
        raise DamagedError(f"{fault.filename}: no such file; {remedy}") from None
    if recorded != actual:
        raise DamagedError(f"{path}: not the file that {_beside(path).name} describes; {remedy}")


def _beside(path: Path) -> Path:
    return path.with_suffix(".sha256")


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the digest of its other keys under `sha256`."""
    return {**value, _KEY: _content(value)}


def is_sealed(value: Any) -> bool:
    """Is this a document with the digest of its other keys?"""
    return isinstance(value, dict) and value.get(_KEY) == _content(value)


def write_document(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its digest in it."""
    write_json(path, sealed(value))


def read_document(path: Path, remedy: str) -> dict[str, Any]:
    """Read what `write_document` wrote. Raises DamagedError, which ends in `remedy`, for anything else."""
    try:
        value = read_json(path)
    except UserError as fault:
        raise DamagedError(f"{fault}; {remedy}") from None
    if not is_sealed(value):
        raise DamagedError(f"{path}: damaged, or not written by this version; {remedy}")
    return {key: item for key, item in value.items() if key != _KEY}


def _content(value: Mapping[str, Any]) -> str:
    rest = {key: item for key, item in value.items() if key != _KEY}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_binary(path: Path, data: bytes | memoryview) -> None:
    """Write bytes after a line with their digest. They are on the disk when this returns, whatever power does then."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(_HEADER % hashlib.sha256(data).hexdigest().encode())
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    _sync_folder(path.parent)


def read_binary(path: Path) -> memoryview:
    """The bytes that `write_binary` was given. Raises DamagedError for anything else, and FileNotFoundError."""
    content = memoryview(path.read_bytes())
    data = content[_HEADER_SIZE:]
    if content[:_HEADER_SIZE] != _HEADER % hashlib.sha256(data).hexdigest().encode():
        raise DamagedError(f"{path}: damaged: its digest is another one")
    return data


def _sync_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk, where folders can be opened (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)

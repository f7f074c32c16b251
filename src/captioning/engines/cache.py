"""Exported models that are made when an engine first needs them, and kept in the user's cache."""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from captioning.captioner import cards
from captioning.engines import folders, registry
from captioning.engines.exported import Exported
from captioning.engines.registry import Engine, Kind
from captioning.system.errors import UserError
from captioning.system.files import digest, user_cache

_KEPT = Kind.onnx  # every engine reads it


def place(model: Path) -> Path:
    """Where the export of a model folder is kept: under the digest of its model.json and the versions of libraries."""
    parts = {"model": digest(model / cards.NAME), "format": folders.FORMAT, "libraries": folders.libraries(_KEPT)}
    return user_cache("engines") / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check_trained(models: Iterable[Path]) -> None:
    """Raise UserError where one is an exported model, which torch does not run."""
    for folder in filter(folders.is_exported, models):
        registry.check_reads(Engine.torch, folders.read_card(folder)["kind"], folder)


def load(model: Path, engine: Engine, threads: int) -> Exported:
    """A model folder, or that of an exported model, run by an engine. A model folder is exported first, once.

    Raises UserError as `folders.load` does.
    """
    if folders.is_exported(model):
        return folders.load(model, engine, threads)
    registry.check_installed(engine)
    registry.check_export(_KEPT)
    folder = place(model)
    if folders.is_exported(folder):
        try:
            return folders.load(folder, engine, threads)
        except UserError:  # damaged: it is made anew
            pass
    print(f"exporting {model.name} for {engine}: once, into {folder.parent}", file=sys.stderr, flush=True)
    folders.write(model, folder, _KEPT)
    return folders.load(folder, engine, threads)

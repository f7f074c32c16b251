"""Exported models that are made when an engine first needs them, and kept in the user's cache."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from captioning.captioner import cards
from captioning.data.runtimes import registry
from captioning.data.runtimes.registry import Engine, Kind
from captioning.engines import folders
from captioning.engines.exported import Exported
from captioning.system.errors import UserError
from captioning.system.files import run_key, user_cache

_KEPT = Kind.onnx  # every engine reads it
_CODE = (
    "captioner",
    "data/runtimes",
    "data/text",
    "decoders",
    "engines",
    "kernels",
    "system",
    "vision",
)  # that graphs are made by


def place(model: Path) -> Path:
    """Where the export of a model folder is kept: under the digests of its model.json and of the code that exports.

    The versions of libraries, and whether kernels are the plain ones, are part of the key too.
    """
    made_by = {
        "format": folders.FORMAT,
        "libraries": folders.libraries(_KEPT),
        "plain": os.environ.get("CAPTIONING_PLAIN_KERNELS"),
    }
    return user_cache("engines") / run_key(made_by, [model / cards.NAME], _code())


def _code() -> dict[str, Path]:
    """The source files that decide a graph, by their path in the library."""
    library = Path(__file__).parents[1]
    files = sorted(file for part in _CODE for file in (library / part).rglob("*.py"))
    return {file.relative_to(library).as_posix(): file for file in files}


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
    registry.check_installed(engine, f"--engine {engine}")
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

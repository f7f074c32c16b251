"""Models in a form that other engines than torch run."""

from pathlib import Path

from captioning.data.runtimes import registry
from captioning.data.runtimes.registry import Kind
from captioning.engines import folders
from captioning.engines.folders import ExportCard
from captioning.system.errors import UserError


def check(out: Path, kind: Kind) -> None:
    """Raise UserError where an export to `out` cannot be made: something else is there, or a package is missing."""
    registry.check_export(kind)
    if out.exists() and not folders.is_exported(out):
        raise UserError(f"--out {out}: is there already, and is no exported model; name another folder")


def export(model: str, folder: Path, out: Path, kind: Kind) -> ExportCard:
    """Export the model of a folder, which the user calls `model`. `out` appears when it is whole.

    Raises UserError as `engines.folders.write` does, and for a model that is exported already.
    """
    if folders.is_exported(folder):
        raise UserError(f"{model}: is an exported model; name the model that it was made of")
    return folders.write(folder, out, kind)

"""Models for the command line: with the arithmetic that they ask for, which is fixed before torch is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.captioner import cards
from captioning.models.released import Model as Found
from captioning.system import compute

if TYPE_CHECKING:
    from captioning.models.python import Model


def pinned(found: Sequence[Found], *, threads: int | None = None, mirror: bool = False) -> "Model":
    """Load models, with the vector unit that the first one asks for, and its number of threads if none is given.

    Raises UserError as `python.of_folders` does.
    """
    record = cards.read(found[0].folder)
    compute.pin(portable=record.portable, threads=threads or record.threads)
    from captioning.models import python

    return python.of_folders([one.folder for one in found], [one.title for one in found], mirror=mirror)


def digest_of(folder: Path) -> str:
    """The digest of a model's decoder, by its card: what tells two models apart. Raises UserError as `cards.read`."""
    return cards.read(folder).files["decoder.safetensors"]

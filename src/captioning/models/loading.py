"""Models for the command line: with the arithmetic that they ask for, which is fixed before torch is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.captioner import cards
from captioning.data.runtimes.registry import Engine
from captioning.models import choice
from captioning.models.released import Model as Found
from captioning.system import compute, quickly

if TYPE_CHECKING:
    from captioning.models.base import Model
    from captioning.models.python import TrainedModel


def named(
    names: Sequence[str] | None,
    repo: str | None,
    *,
    threads: int | None = None,
    mirror: bool = False,
    engine: Engine = Engine.torch,
) -> "Model":
    """The model that these names mean: one of this library, as `pinned` has it, or one of transformers.

    Raises UserError as `choice.models` and `python.load` do.
    """
    other = choice.outside(names, repo, mirror=mirror, engine=engine)
    if other is None:
        return pinned(choice.models(names, repo), threads=threads, mirror=mirror, engine=engine)
    compute.pin(portable=True, threads=threads or compute.cores())
    with quickly.loading():
        from captioning.models import outside

        return outside.load(other)


def pinned(
    found: Sequence[Found], *, threads: int | None = None, mirror: bool = False, engine: Engine = Engine.torch
) -> "TrainedModel":
    """Load models, with the vector unit that the first one asks for, and its number of threads if none is given.

    Raises UserError as `python.of_folders` does.
    """
    record = cards.read(found[0].folder)
    if engine == Engine.torch:
        compute.pin(portable=record.portable, threads=threads or record.threads)
    folders, titles = [one.folder for one in found], [one.title for one in found]
    with quickly.loading():
        from captioning.models import python  # torch, if the engine is torch, is loaded here at the earliest

        return python.of_folders(folders, titles, mirror=mirror, engine=engine, threads=threads or record.threads)


def digest_of(folder: Path) -> str:
    """The digest of a model's decoder, by its card: what tells two models apart. Raises UserError as `cards.read`."""
    return cards.read(folder).files["decoder.safetensors"]

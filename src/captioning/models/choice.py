"""Which model a name means, and which one is used where none is named."""

from collections.abc import Sequence
from pathlib import Path

from captioning.captioner import cards
from captioning.data.runtimes.registry import Engine
from captioning.experiments.commands import project
from captioning.models import released, shipped
from captioning.models.descriptions import CONTENT, DRAWINGS
from captioning.models.released import Model
from captioning.system.errors import UserError

TRAINED = Path("data/train/model")
"""Where the pipeline puts a model, relative to the project's folder."""
OUTSIDE = "hf:"
"""What stands before the folder or the name of a captioner of the library transformers."""
_DEFAULT = "photographs"


def models(names: Sequence[str] | None, repo: str | None) -> list[Model]:
    """The models that these names mean; without names `default`, or in `repo` that of its last commit.

    A name is a folder, a shipped model, or a revision as in `released.models`. Raises UserError as that does.
    """
    if repo is not None:
        return released.models(names, repo, TRAINED)
    return [_named(name) for name in names] if names else [default()]


def outside(
    names: Sequence[str] | None, repo: str | None, *, mirror: bool = False, engine: Engine = Engine.torch
) -> str | None:
    """What follows `hf:`, where it is a captioner of transformers that is named; None for models of this library.

    Raises UserError where it is named beside others, or with what only this library's models have.
    """
    others = [name for name in names or () if name.startswith(OUTSIDE)]
    if not others:
        return None
    if len(names or ()) > 1:
        raise UserError(f"--model {others[0]}: its probabilities cannot be averaged with others'; name it alone")
    options = {"--repo": repo is not None, "--mirror": mirror, "--engine": engine != Engine.torch}
    for option in (name for name, given in options.items() if given):
        raise UserError(f"{option}: of this library's own models, and not of {others[0]}; leave it out")
    return others[0].removeprefix(OUTSIDE)


def _named(name: str) -> Model:
    if name in shipped.names() and not (Path(name) / cards.NAME).is_file():
        return Model(shipped.folder(name), f"{name} (shipped)")
    return released.models([name], None, TRAINED)[0]


def default() -> Model:
    """The model that was trained in this project, if it is one for photographs; else the shipped one.

    Raises UserError where the trained model's card is damaged, and where there is no model at all.
    """
    trained = project() / TRAINED
    there = (trained / cards.NAME).is_file()
    if there and CONTENT.get(cards.read(trained).card.settings.get("dataset", "")) != DRAWINGS:
        return Model(trained, str(TRAINED))
    if _DEFAULT in shipped.names():
        return Model(shipped.folder(_DEFAULT), f"{_DEFAULT} (shipped)")
    if there:
        return Model(trained, str(TRAINED))
    raise UserError(f"no model: {TRAINED} does not exist; train one (`dvc repro`), or name one")

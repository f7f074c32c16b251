"""Folders of trained models that an experiment reads: what must be there before any work begins."""

from collections.abc import Sequence
from pathlib import Path

from captioning.captioner import cards
from captioning.system.errors import UserError
from captioning.system.files import main_root

_SHIPPED = Path("src/captioning/models/shipped")  # of the project


def check_start(folder: Path, *, encoder: str, decoder: str) -> None:
    """Raise UserError unless `folder` has a model with this encoder and decoder, to start training from.

    A folder that is missing and that DVC tracks is left to DVC, which may fetch it. `warm_start` compares the rest.
    """
    shipped = _SHIPPED / folder
    if not folder.is_dir() and shipped.is_dir():
        raise UserError(f"train.start = {folder}: no such folder; the model of this name is {shipped}")
    if not folder.is_dir() and folder.with_name(f"{folder.name}.dvc").is_file():
        return
    if (folder / "config.json").is_file() and not (folder / cards.NAME).is_file():
        raise UserError(
            f"train.start = {folder}: the folder of a text model, or of a published Oscar or VinVL; "
            "name it as vocab.text, with decoder: oscar"
        )
    card = cards.read(folder).card
    compared = {"encoder": (card.encoder, encoder), "decoder": (card.decoder, decoder)}
    faults = [f"{name} ({its}, here {here})" for name, (its, here) in compared.items() if its != here]
    if faults:
        raise UserError(f"train.start = {folder}: not a model that training here can start from: {'; '.join(faults)}")


def decoders(folders: Sequence[Path]) -> list[str]:
    """The decoder of each model folder. Raises UserError where a card cannot be read."""
    return [cards.read(folder).card.decoder for folder in folders]


def members(folder: Path) -> list[Path]:
    """The model folders in `folder`, sorted.

    A relative path is looked up in the working folder, where DVC sees what is in it. Raises UserError when there is no
    such folder, or a queued experiment's copy of it lacks models that the main repository's has.
    """
    if not folder.is_dir():
        raise UserError(f"evaluate.ensemble: {folder}: no such folder")
    roots = (folder, main_root() / folder)
    present, expected = ({path.parent.name for path in root.glob("*/model.json")} for root in roots)
    if expected - present:
        raise UserError(
            f"evaluate.ensemble: {folder}: this copy of the repository lacks {', '.join(sorted(expected - present))}; "
            "in a queued experiment give an absolute path, or add the models with `dvc add`"
        )
    return [folder / name for name in sorted(present)]

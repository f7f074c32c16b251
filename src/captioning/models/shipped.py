"""The models that are part of the package: folders of `shipped/`, each with a model card (README.md)."""

from pathlib import Path

from captioning.captioner import cards
from captioning.system.errors import UserError

FOLDER = Path(__file__).parent / "shipped"
THREADS = 2  # of a released model's arithmetic, which is portable, whatever its training's was


def names() -> list[str]:
    """The names of all shipped models."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{cards.NAME}"))


def is_model(folder: Path) -> bool:
    """Has a folder the card of a model?"""
    return (folder / cards.NAME).is_file()


def folder(name: str) -> Path:
    """The folder of a shipped model. Raises UserError where there is none of this name."""
    if name not in names():
        raise UserError(f"{name}: no shipped model has this name; there is {', '.join(names()) or 'none'}")
    return FOLDER / name

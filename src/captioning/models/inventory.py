"""What models there are: shipped with the package, trained in this project, released by tag."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from captioning.captioner import cards
from captioning.captioner.cards import Card
from captioning.experiments.commands import commit, git, project
from captioning.models import shipped
from captioning.models.choice import TRAINED
from captioning.models.descriptions import trained_on
from captioning.system.errors import UserError


class Entry(NamedTuple):
    """A model: its name for `--model`, where it comes from, and what its card says; the card is None where unread."""

    name: str
    origin: str
    card: Card | None
    bytes: int

    def description(self) -> str:
        """In words: networks, training images, validation score, size, licence."""
        if self.card is None:
            return self.origin
        parts = [f"{self.card.reads} + {self.card.decoder}, trained on {trained_on(self.card.settings)}"]
        if "val/cider" in self.card.scores:
            parts.append(f"validation CIDEr {self.card.scores['val/cider']:.2f}")
        if self.bytes:
            parts.append(f"{self.bytes / 1e6:.1f} MB")
        if licence := self.card.provenance.get("licence"):
            parts.append(str(licence))
        return f"{self.origin}: {', '.join(parts)}"


def entries() -> list[Entry]:
    """Every model that is at hand, the shipped ones first. Raises UserError where a card is damaged."""
    return [*_shipped(), *_trained(), *_tags()]


def _shipped() -> Iterator[Entry]:
    for name in shipped.names():
        yield _entry(name, "shipped", shipped.folder(name))


def _trained() -> Iterator[Entry]:
    folder = project() / TRAINED
    if (folder / cards.NAME).is_file():
        yield _entry(str(TRAINED), "trained here", folder)


def _entry(name: str, origin: str, folder: Path) -> Entry:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return Entry(name, origin, cards.read(folder).card, size)


def _tags() -> Iterator[Entry]:
    """Tags of a released model, `model@v1.0.0`, where the working folder is in a git repository."""
    if commit("HEAD") is None:
        return
    try:
        names = git("tag", "--list", "model@*").split()
    except UserError:
        return
    for name in names:
        yield Entry(name, "released by tag", None, 0)

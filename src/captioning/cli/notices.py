"""What `captioning predict` prints on standard error: the models it uses, and the images to be careful about."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.system.errors import UserError, escaped, shown

if TYPE_CHECKING:
    from captioning.captioner.cards import Card
    from captioning.captioner.model import Captioner

_DRAWINGS = "drawings"
CONTENT = {  # of each data set's images
    "scenes": _DRAWINGS,
    "abstract_scenes": _DRAWINGS,
    "flickr8k": "photographs",
    "flickr30k": "photographs",
    "coco2014": "photographs",
    "coco2017": "photographs",
    "folder": "one's own images",
}
_NAMED = 3  # of many unlike images, so many are named


def describe(title: str, card: "Card", *, keeps_statistics: bool) -> list[str]:
    """Lines on a model, by its own record: what it is, what it was trained on, and how well that went.

    keeps_statistics: whether images can be compared with its training images, so that photographs are noticed.
    """
    parts = [f"model {title}: {card.encoder} + {card.decoder}, trained on {trained_on(card.settings)}"]
    if "epoch" in card.scores:
        parts.append(f"epoch {card.scores['epoch']}")
    if "val/cider" in card.scores:
        parts.append(f"CIDEr {card.scores['val/cider']:.2f} on its validation images")
    lines = [", ".join(parts)]
    if CONTENT.get(card.settings.get("dataset", "")) == _DRAWINGS and not keeps_statistics:
        lines.append("it was trained on drawings alone: its captions of photographs are guesses")
    return lines


def trained_on(settings: Mapping[str, Any]) -> str:
    """A model's data set and what its images are, as `scenes: drawings`."""
    name = settings.get("dataset", "an unknown data set")
    return f"{name}: {CONTENT[name]}" if name in CONTENT else name


class Notices:
    """Reports files that are skipped and images that are unlike the training images, and counts them at the end."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.unlike = 0
        self.training = ""

    def begin(self, titles: Sequence[str], members: "Sequence[Captioner]") -> None:
        """Print which models are used. Images are compared with the training images of all of them."""
        for title, member in zip(titles, members, strict=True):
            print_lines(describe(title, member.card, keeps_statistics=member.statistics is not None))
        self.training = ", ".join(dict.fromkeys(trained_on(member.card.settings) for member in members))

    @property
    def _theirs(self) -> str:
        return f"the images that this model was trained on ({self.training})"

    def skip(self, path: str | Path, fault: OSError | UserError) -> None:
        """A file that cannot be read or decoded."""
        said = f"{path}: {fault.strerror}" if isinstance(fault, OSError) else str(fault)
        print_lines([f"error: {said}"])
        self.skipped.append(str(path))

    def differs(self, path: Path) -> None:
        """An image that is unlike the training images; after the first few, they are only counted."""
        self.unlike += 1
        if self.unlike <= _NAMED:
            print_lines([f"{path}: unlike {self._theirs}; its caption is a guess"])

    def end(self, files: int) -> None:
        """Counts, of so many files that were to be captioned."""
        if self.unlike > _NAMED:
            print_lines([f"{self.unlike} of {files} files: unlike {self._theirs}; their captions are guesses"])
        if self.skipped:
            print_lines([f"{len(self.skipped)} of {files} files skipped: {name_some(self.skipped)}"])


def name_some(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(shown, names[:_NAMED])) + more


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard error, without control characters, which names of files may have."""
    for line in lines:
        print(escaped(line), file=sys.stderr, flush=True)

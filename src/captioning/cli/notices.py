"""What `captioning predict` prints on standard error: the models it uses, and the images to be careful about."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.system.errors import UserError, escaped, shown

if TYPE_CHECKING:
    from captioning.models.base import Model

_MAX_NAMED = 3  # of many unlike images, so many are named


class Notices:
    """Reports files that are skipped and images that are unlike the training images, and counts them at the end."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.unlike = 0
        self.abstained = 0
        self.training = ""

    def begin(self, model: "Model") -> None:
        """Print which models are used. Images are compared with the training images of all of them."""
        print_lines(model.description())
        self.training = model.training

    @property
    def _training_images(self) -> str:
        return f"the images that this model was trained on ({self.training})"

    def skip(self, path: str | Path, fault: OSError | UserError) -> None:
        """A file that cannot be read or decoded."""
        message = f"{path}: {fault.strerror}" if isinstance(fault, OSError) else str(fault)
        print_lines([f"error: {message}"])
        self.skipped.append(str(path))

    def differs(self, path: Path) -> None:
        """An image that is unlike the training images; after the first few, they are only counted."""
        self.unlike += 1
        if self.unlike <= _MAX_NAMED:
            print_lines([f"{path}: unlike {self._training_images}; its caption is a guess"])

    def abstain(self, path: Path, confidence: float) -> None:
        """An image that gets no caption, since none is sure enough; after the first few, they are only counted."""
        self.abstained += 1
        if self.abstained <= _MAX_NAMED:
            print_lines([f"{path}: no caption, its confidence is {confidence:.2f}"])

    def end(self, files: int) -> None:
        """Counts, of so many files that were to be captioned."""
        if self.unlike > _MAX_NAMED:
            print_lines([f"{self.unlike} of {files} files: unlike {self._training_images}; their captions are guesses"])
        if self.abstained > _MAX_NAMED:
            print_lines([f"{self.abstained} of {files} files: no caption, their confidence is too low"])
        if self.skipped:
            print_lines([f"{len(self.skipped)} of {files} files skipped: {name_some(self.skipped)}"])


def name_some(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(map(shown, names[:_MAX_NAMED])) + more


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard error, without control characters, which names of files may have."""
    for line in lines:
        print(escaped(line), file=sys.stderr, flush=True)

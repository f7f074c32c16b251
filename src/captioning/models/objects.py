"""Objects of a user's own images, from a table in the published layout."""

from collections.abc import Mapping
from pathlib import Path

from captioning.data.objects.labels import Found as Found
from captioning.data.objects.labels import read_labels
from captioning.data.objects.tables import CARD, identity, inside, read_card, shown_identity
from captioning.system.errors import UserError, shown


class Labels:
    """A label.tsv, or a predictions.tsv: a row is an image's name without suffix, and its objects."""

    def __init__(self, path: Path, wanted: Mapping[str, str]) -> None:
        """wanted: the kind of objects that the model reads, as `tables.identity` has it.

        Raises UserError as `read_labels` does, and, naming both, where the card beside the table says another kind.
        """
        if (path.parent / CARD).is_file():
            here = identity(read_card(path.parent))
            if here != wanted:
                kinds = shown_identity(wanted), shown_identity(here)
                raise UserError(f"--labels {path}: the model reads objects = {kinds[0]}, and these are {kinds[1]}")
        self.path, self._found = path, read_labels(path)

    def of(self, image: Path, size: tuple[int, int]) -> list[Found]:
        """The objects of an image of `size` (width, height), best first, cut at its edges.

        Raises UserError where it has no row, or a box is outside of it.
        """
        if image.stem not in self._found:
            raise UserError(f"{self.path}: no row of {shown(image.stem)}; the key is the image's name without suffix")
        return [inside(one, size, f"{self.path}, {shown(image.stem)}") for one in self._found[image.stem]]

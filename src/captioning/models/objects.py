"""Objects of a user's own images, from a table in the published layout."""

from pathlib import Path

from captioning.data.objects.labels import Found, read_labels
from captioning.data.objects.tables import inside
from captioning.system.errors import UserError, shown


class Labels:
    """A label.tsv, or a predictions.tsv: a row is an image's name without suffix, and its objects."""

    def __init__(self, path: Path) -> None:
        """Raises UserError as `read_labels` does."""
        self.path, self._found = path, read_labels(path)

    def of(self, image: Path, size: tuple[int, int]) -> list[Found]:
        """The objects of an image of `size` (width, height), best first, cut at its edges.

        Raises UserError where it has no row, or a box is outside of it.
        """
        if image.stem not in self._found:
            raise UserError(f"{self.path}: no row of {shown(image.stem)}; the key is the image's name without suffix")
        return [inside(one, size, f"{self.path}, {shown(image.stem)}") for one in self._found[image.stem]]

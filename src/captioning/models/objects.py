"""Objects of a user's own images: from a table in the published layout, or as `captioning predict` lists them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from captioning.data.objects.labels import Found as Found
from captioning.data.objects.labels import read_labels, read_objects
from captioning.data.objects.placing import TAGS
from captioning.data.objects.rows import Row
from captioning.data.objects.tables import CARD, identity, inside, read_card, shown_identity
from captioning.data.text.phrases import phrases
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.documents import decode_text
from captioning.system.errors import UserError, shown

if TYPE_CHECKING:
    from captioning.vision.encoders.at_boxes import Places
    from captioning.vision.encoders.encoded import Encoded

LISTED = ".jsonl"  # of a file that `captioning predict --objects --format jsonl` wrote


class _Listed(TypedDict):
    file: str
    objects: list[Any]


_LISTED = TypeAdapter(_Listed)


class Labels:
    """A label.tsv, or a predictions.tsv: a row is an image's name without suffix, and its objects.

    Or what `captioning predict --objects --format jsonl` wrote: a row is an image as it was named there.
    """

    def __init__(self, path: Path, wanted: Mapping[str, str]) -> None:
        """wanted: the kind of objects that the model reads, as `tables.identity` has it.

        Raises UserError as `read_labels` does, and, naming both, where the card beside the table says another kind.
        """
        self.path, self.listed = path, path.suffix == LISTED
        if not self.listed and (path.parent / CARD).is_file():
            here = identity(read_card(path.parent))
            if here != wanted:
                kinds = shown_identity(wanted), shown_identity(here)
                raise UserError(f"--labels {path}: the model reads objects = {kinds[0]}, and these are {kinds[1]}")
        self._found = _read_listed(path) if self.listed else read_labels(path)

    def of(self, image: Path, size: tuple[int, int]) -> list[Found]:
        """The objects of an image of `size` (width, height), best first, cut at its edges.

        Raises UserError where it has no row, or a box is outside of it.
        """
        key = str(image) if self.listed else image.stem
        if key not in self._found:
            named = "the image as it was named" if self.listed else "the image's name without suffix"
            raise UserError(f"{self.path}: no row of {shown(key)}; the key is {named}")
        return [inside(one, size, f"{self.path}, {shown(key)}") for one in self._found[key]]


def _read_listed(path: Path) -> dict[str, list[Found]]:
    """File → objects. Raises UserError with file and line of what is malformed."""
    try:
        text = decode_text(path.read_bytes(), str(path))
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror})") from None
    found: dict[str, list[Found]] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        location = f"{path}, line {number}"
        try:
            listed = _LISTED.validate_json(line)
        except ValidationError:
            raise UserError(f"{location}: not a file and its objects; write --objects --format jsonl again") from None
        if listed["file"] in found:
            raise UserError(f"{location}: {shown(listed['file'])} is there twice; remove one of its lines")
        found[listed["file"]] = read_objects(Row(listed["file"], [json.dumps(listed["objects"])], location))
    return found


def tagged(places: "Places | Encoded", tags: str, vocabulary: Vocabulary) -> "Places | Encoded":
    """The places of B images, or what a detector made of them, with these names for each, as a person writes them.

    An empty text: with none. Raises UserError where the vocabulary lacks one of its words.
    """
    [ids] = phrases(vocabulary, [tags], "--tags") if tags.strip() else [()]
    assert places.tags is not None  # of objects with boxes
    return places._replace(tags=places.tags.new_tensor([ids[:TAGS]] * len(places.tags)))

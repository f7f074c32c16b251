"""The options of `captioning predict` about the objects that a model reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from captioning.cli.places import sheet_names
from captioning.system.errors import UserError

if TYPE_CHECKING:
    from captioning.models.base import Captioned, Model
    from captioning.models.objects import Found, Labels
    from captioning.models.sources import Read
    from captioning.settings.search import SearchOptions


class Wanted(NamedTuple):
    """What of objects is asked for.

    table: objects, in place of what the model finds. tags: names, in place of theirs. drawn: the drawing of each image.
    listed: are they listed? named: must captions name them?
    """

    table: "Labels | None"
    tags: str | None
    drawn: dict[Path, Path]
    listed: bool
    named: bool

    @classmethod
    def of_options(
        cls,
        model: "Model",
        labels: Path | None,
        tags: str | None,
        boxes: Path | None,
        files: Sequence[Path],
        options: "SearchOptions",
        *,
        listed: bool,
        lines: bool,
        named: bool,
    ) -> "Wanted":
        """The options, checked. lines: a file of captions has a line a caption, so that objects cannot be listed.

        Raises UserError where a model that reads no objects is asked for them, or one that finds none gets none.
        """
        table = _table(model, labels)
        asked = {"--objects": listed, "--boxes": boxes is not None, "--must-objects": named}
        if not model.objects and (option := next((name for name, given in asked.items() if given), None)):
            raise UserError(f"{option}: this model reads no objects; leave it out")
        if tags is not None and not model.reads_tags:
            raise UserError("--tags: this model reads no names of objects; leave it out")
        if named and options.method != "beam":
            raise UserError(f"--must-objects: only beam search can, and --method is {options.method}; leave one out")
        if listed and lines:
            raise UserError("--objects: csv, and --out with text, have a line a caption; use --format jsonl")
        return cls(table, tags, {} if boxes is None else sheet_names("--boxes", boxes, files), listed, named)

    def found(self, model: "Model", path: Path, image: "Read") -> "list[Found]":
        """The objects of an image, best first. Raises UserError where the table has none."""
        return model.find(image.image) if self.table is None else self.table.of(path, image.image.size)

    def captions(
        self, model: "Model", images: "Sequence[Read]", there: "Sequence[list[Found]]", options: "SearchOptions"
    ) -> "list[Captioned]":
        """Captions of images with these objects. Where these must be named, each image is searched in its own way."""
        if not self.named:
            return model.batch_of_objects(images, there, options, self.tags)
        return [
            model.batch_of_objects([image], [found], model.requiring(options, found), self.tags)[0]
            for image, found in zip(images, there, strict=True)
        ]


def _table(model: "Model", labels: Path | None) -> "Labels | None":
    """The table that is named. Raises UserError where the model needs one and none is named, or the other way round."""
    if labels is None:
        model.refuse_objects("name a table of them with --labels FILE")
        return None
    if not model.objects:
        raise UserError("--labels: this model reads no objects; leave it out")
    model.refuse_vectors()
    from captioning.models.objects import Labels

    return Labels(labels, model.objects)

"""The values of the setting `objects`: what is in an image, and where, besides its pixels."""

from typing import Annotated, Literal

from captioning.settings.sections import Meaning

NONE, LABELS = "none", "labels"
Kind = Annotated[
    Literal["none", "labels"],
    Meaning("none | labels (what the data set says, or a label.tsv in `download.source`; docs/objects.md)"),
]

"""The values of the setting `objects`: what is in an image, and where, besides its pixels."""

from typing import Annotated, Literal

from captioning.settings.sections import Meaning

NONE, LABELS, TRAINED = "none", "labels", "trained"
Kind = Annotated[
    Literal["none", "labels", "trained"],
    Meaning(
        "none | labels (what the data set says, or a label.tsv in `download.source`) | trained (what a detector finds "
        "that is trained on what the data set says of the training images; docs/objects.md)"
    ),
]

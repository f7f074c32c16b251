"""The values of the setting `objects`: what is in an image, and for all but `words` where, besides its pixels."""

from typing import Annotated, Literal

from captioning.settings.sections import Meaning

NONE, LABELS, TRAINED, WORDS = "none", "labels", "trained", "words"
Kind = Annotated[
    Literal["none", "labels", "trained", "words"],
    Meaning(
        "none | labels (what the data set says, or a label.tsv in `download.source`) | trained (what a detector finds "
        "that is trained on what the data set says) | words (tags alone: likely words of captions; docs/objects.md)"
    ),
]

"""The values of the setting `objects`: what is in an image, and for all but `words` where, besides its pixels."""

from typing import Annotated

from captioning.settings.sections import Meaning, Text

NONE, LABELS, TRAINED, WORDS = "none", "labels", "trained", "words"
OWN = (NONE, LABELS, TRAINED, WORDS)  # another value is the name of a detector
Kind = Annotated[
    Text,
    Meaning(
        "none | labels (what the data set says, or a label.tsv in `download.source`) | trained (what a detector finds, "
        "which is trained on what the data set says) | words (tags alone: likely words of captions) | a detector of "
        "torchvision, by name (docs/objects.md)"
    ),
]

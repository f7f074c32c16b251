"""The values of the setting `objects`: what is in an image, and for all but `words` where, besides its pixels."""

from typing import Annotated

from captioning.settings.sections import Meaning, Text

NONE, LABELS, BOXES, TRAINED, WORDS = "none", "labels", "boxes", "trained", "words"
OWN = (NONE, LABELS, BOXES, TRAINED, WORDS)  # another value is the name of a detector
Kind = Annotated[
    Text,
    Meaning(
        "none | labels (of the data set, or a label.tsv in `download.source`) | boxes (the same, without names) | "
        "trained (a detector's, trained on them) | words (tags: likely words of captions) | a detector of torchvision "
        "| NAME/box_head (with its vectors; docs/objects.md)"
    ),
]

"""The values of the setting `objects`: what is read of an image besides its pixels, and for most of them where."""

from typing import Annotated

from captioning.settings.sections import Meaning, Text

NONE, LABELS, BOXES, TRAINED = "none", "labels", "boxes", "trained"
WORDS, NEIGHBOURS = "words", "neighbours"
PREDICTED = (WORDS, NEIGHBOURS)  # the stage `train` makes them of a frozen encoder's features
OWN = (NONE, LABELS, BOXES, TRAINED, *PREDICTED)  # another value names a detector
BOX_HEAD = "/box_head"  # behind its name: regions are vectors of the detector, and not of the encoder
Kind = Annotated[
    Text,
    Meaning(
        "none | labels (of the data set, or a label.tsv) | boxes (labels without names) | trained (a detector's, "
        "trained here) | words (likely ones as tags) | neighbours (captions of like images) | a detector of "
        "torchvision | NAME/box_head (its vectors; docs/objects.md)"
    ),
]


def of_box_head(kind: str) -> bool:
    """Are the regions vectors of the detector's own box head?"""
    return kind.endswith(BOX_HEAD)

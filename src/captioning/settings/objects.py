"""The values of the setting `objects`: what is in an image, and for all but `words` where, besides its pixels."""

from typing import Annotated

from captioning.settings.sections import Meaning, Text

NONE, LABELS, BOXES, TRAINED, WORDS = "none", "labels", "boxes", "trained", "words"
OWN = (NONE, LABELS, BOXES, TRAINED, WORDS)  # another value names a detector
BOX_HEAD = "/box_head"  # behind its name: regions are vectors of the detector, and not of the encoder
Kind = Annotated[
    Text,
    Meaning(
        "none | labels (of the data set, or a label.tsv in `download.source`) | boxes (the same, without names) | "
        "trained (a detector's, trained here) | words (tags: likely words of captions) | a detector of torchvision | "
        "NAME/box_head (with its vectors; docs/objects.md)"
    ),
]


def of_box_head(kind: str) -> bool:
    """Are the regions vectors of the detector's own box head?"""
    return kind.endswith(BOX_HEAD)

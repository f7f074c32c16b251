"""The values of the setting `objects`: what is in an image, and where, besides its pixels."""

from typing import Annotated

from captioning.settings.sections import Meaning, Text

NONE, LABELS, TRAINED = "none", "labels", "trained"
OWN = (NONE, LABELS, TRAINED)  # another value is the name of a detector
Kind = Annotated[
    Text,
    Meaning(
        "none | labels (what the data set says, or a label.tsv in `download.source`) | trained (what a detector finds "
        "that is trained on what the data set says of the training images) | what a detector of torchvision finds, "
        "by name, such as fasterrcnn_resnet50_fpn_v2 (docs/objects.md)"
    ),
]

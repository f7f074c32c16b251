"""What may be done with a released model: the terms of its training images and of the weights that it started from."""

from collections.abc import Mapping
from typing import Any

RESEARCH = "for non-commercial research and education"
DATA = {  # terms of the images and captions of each data set
    "scenes": "MIT (drawn by this project)",
    "flickr8k": RESEARCH,
    "flickr30k": RESEARCH,
    "coco2014": "captions CC BY 4.0; each photograph has its own licence on Flickr",
    "coco2017": "captions CC BY 4.0; each photograph has its own licence on Flickr",
    "abstract_scenes": "Microsoft Research's own terms, for research",
    "folder": "those of its owner",
}
_WEIGHTS = {  # by the digest of the file
    "ad5908e8cc4a4e633022336d58d6df6fddb69ed5caadd7d77a6bab8b51e8a982": "a MobileNetV2 of TensorFlow, trained on "
    "ImageNet, converted; Apache-2.0",
}


def of_data(dataset: str) -> str:
    """The terms of a data set, in words."""
    return DATA.get(dataset, "not known")


def of_weights(record: Mapping[str, Any]) -> str:
    """Where initial weights come from, with their terms; record: as the stage `weights` writes it."""
    if record.get("kind") == "none":
        return "none: the encoder was trained from scratch"
    known = _WEIGHTS.get(str(record.get("sha256")))
    return known or f"{record.get('origin')}; their licence is not recorded"

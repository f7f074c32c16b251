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
_WEIGHTS = {  # by the digest of the weights as the stage `weights` stores them
    "d9031de137aaad018bb10b735f2fd738afab0be5715f265755ace5f6b0475cfc": "a MobileNetV2 of TensorFlow, trained on "
    "ImageNet, converted; Apache-2.0",
    "50bddc33679fa09d735ad1ebacc20ac0ca096fed116d9451de47f50ef9ba05e5": "an EfficientNet-Lite2 of TensorFlow, trained "
    "on ImageNet, converted by timm; Apache-2.0",
}


def of_data(dataset: str) -> str:
    """The terms of a data set, in words."""
    return DATA.get(dataset, "not known")


def of_weights(record: Mapping[str, Any]) -> str:
    """Where initial weights come from, with their terms; record: as the stage `weights` writes it."""
    if record.get("kind") == "none":
        return "none: the encoder was trained from scratch"
    known = _WEIGHTS.get(str(record.get("stored")))
    return known or f"{record.get('origin')}; their licence is not recorded"

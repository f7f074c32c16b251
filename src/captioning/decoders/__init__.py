"""Decoders by name. A new one is one file here, and an entry in `captioning.settings.decoders`.

The file has the name of the decoder, and a function `build` as here, with the options by name.
"""

from importlib import import_module
from typing import Any

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import Decoder
from captioning.settings.decoders import codes_boxes, names
from captioning.vision.encoders.at_boxes import CODE

DECODERS = {name: import_module(f"captioning.decoders.{name}") for name in names()}


def build(
    name: str, vocabulary: Vocabulary, feature_size: int, options: dict[str, Any], *, boxed: bool = False
) -> Decoder:
    """Build decoder `name` for the words of `vocabulary`, and features of width D = `feature_size`.

    `options` is the section of params.yaml that bears the decoder's name. boxed: the regions are those of objects, and
    have boxes, whose code is read behind their features.
    """
    width = feature_size + CODE if boxed and not codes_boxes(name) else feature_size
    decoder: Decoder = DECODERS[name].build(vocabulary, width, **options)
    return decoder

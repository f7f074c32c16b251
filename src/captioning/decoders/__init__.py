"""Decoders by name. A new one is one file here and one entry in `DECODERS`."""

from collections.abc import Callable
from typing import Any

from captioning.decoders import attention, lstm, neuraltalk, transformer, updown
from captioning.decoders.base import Decoder

DECODERS: dict[str, Callable[..., Decoder]] = {
    "lstm": lstm.build,
    "neuraltalk": neuraltalk.build,
    "attention": attention.build,
    "updown": updown.build,
    "transformer": transformer.build,
}


def build(name: str, vocabulary_size: int, feature_size: int, options: dict[str, Any]) -> Decoder:
    """Build decoder `name` for V = `vocabulary_size` words and features of width D = `feature_size`.

    `options` is the section of params.yaml that bears the decoder's name.
    """
    return DECODERS[name](vocabulary_size, feature_size, **options)

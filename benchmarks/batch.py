"""A batch of Flickr8k's size, and decoders as wide as params.yaml has them on photographs.

Whoever imports this pins torch first, by `compute.pin`.
"""

from benchmarks.vocabulary import numbered
from captioning import decoders
from captioning.decoders.base import Decoder
from captioning.settings import resolve

CAPTIONS, TOKENS, REGIONS, FEATURES, WORDS, EACH = 130, 13, 49, 1280, 2549, 5  # EACH captions an image


def built(name: str, features: int = FEATURES) -> Decoder:
    """The decoder, with random weights. features: the width of a region."""
    settings = resolve.load(overrides={"decoder": name, "dataset": "flickr8k"})
    return decoders.build(name, numbered(WORDS), features, vars(resolve.decoder_options(settings)))

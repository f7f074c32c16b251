"""What is read beside a frozen encoder's features, and made of them: fitted before the decoder is trained."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from captioning.data.objects import tables
from captioning.data.objects.beside import Beside
from captioning.data.objects.words import WordTagger
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings.objects import NEIGHBOURS, WORDS
from captioning.training import retrieval, word_tags
from captioning.vision.features.store import FeatureStore

Log = Callable[[str], None]


class Captioned(NamedTuple):
    """A store, the captions of its training and of its validation images, and their vocabulary."""

    store: FeatureStore
    train: EncodedCaptions
    val: EncodedCaptions
    vocabulary: Vocabulary


Fit = Callable[[Captioned, Log], Beside]
"""Gives the images of a store what is read beside their features; returns what made it, and logs how it went."""


def _words(captioned: Captioned, log: Log) -> Beside:
    tagger, captioned.store.tags = word_tags.fit(*captioned)
    scores = tagger.record["scores"]["val"]
    tags = f"{scores['tags']} of {len(tagger.words)} words a validation image"
    log(f"tags: {tags}, precision {scores['precision']}, recall {scores['recall']}")
    return tagger


def _neighbours(captioned: Captioned, log: Log) -> Beside:
    store, train, val, vocabulary = captioned
    found, store.neighbours = retrieval.fit(store, train, np.unique(val.image), vocabulary)
    near = found.record["similarity"]
    log(
        f"neighbours: mean cosine {near['train']} of training images (cross-fitted), {near['val']} of validation images"
    )
    return found


FITS: dict[str, Fit] = {WORDS: _words, NEIGHBOURS: _neighbours}
"""By the value of the setting `objects`."""


def identity(beside: Beside) -> dict[str, str]:
    """What the model records as its objects: see `tables.identity`."""
    return tables.WORDS if isinstance(beside, WordTagger) else tables.NEIGHBOURS

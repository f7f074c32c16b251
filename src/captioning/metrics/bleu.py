"""BLEU-1 to BLEU-4 (Papineni et al. 2002) with coco-caption's closest reference length and small constants."""

import numpy as np

from captioning.metrics import elementary
from captioning.metrics.ngrams import ORDERS, Floats, Ints

STATISTICS = 2 * ORDERS + 1

_SMALL = 1e-9  # in denominators
_TINY = 1e-15  # in numerators, so that nothing guessed gives about nothing


def closest_lengths(hypotheses: Ints, references: Ints, first: Ints) -> Ints:
    """For each hypothesis the reference length closest to its own, the shorter of two equally close: (I,).

    hypotheses: (I,) lengths. references: (S,) lengths, image by image. first: (I,) each image's first reference.
    """
    own = np.repeat(hypotheses, np.diff(first, append=len(references)))  # (S,)
    bound = references.max() + 1
    closest: Ints = np.minimum.reduceat(abs(references - own) * bound + references, first) % bound
    return closest


def statistics(correct: Floats, hypotheses: Ints, references: Ints) -> Floats:
    """All that BLEU needs of each image: (I, STATISTICS). Their sums over images give the BLEU of a corpus.

    correct: (I, ORDERS), clipped matches. hypotheses, references: (I,), a hypothesis' length and its closest
    reference's. Columns: clipped matches by order, n-grams of the hypothesis by order, the reference's length.
    """
    guessed = np.maximum(hypotheses[:, None] - np.arange(ORDERS), 0)
    return np.concatenate([correct, guessed, references[:, None]], axis=1, dtype=np.float64)


def bleu(statistics: Floats) -> Floats:
    """BLEU-1 to BLEU-4: (..., ORDERS), of images' `statistics` (..., STATISTICS) or of sums of them, whole numbers."""
    correct, guessed, reference = statistics[..., :ORDERS], statistics[..., ORDERS:-1], statistics[..., -1]
    products = ((correct + _TINY) / (guessed + _SMALL)).cumprod(-1)
    ratio = (guessed[..., 0] + _TINY) / (reference + _SMALL)
    brevity = elementary.exp(np.minimum(1 - 1 / ratio, 0))[..., None]
    means = np.stack([elementary.root(products[..., n], n + 1) for n in range(ORDERS)], axis=-1)
    scores: Floats = means * brevity
    return scores

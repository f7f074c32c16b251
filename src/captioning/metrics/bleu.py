"""BLEU-1 to BLEU-4 (Papineni et al. 2002) with coco-caption's closest reference length and small constants."""

import numpy as np

from captioning.metrics.ngrams import ORDERS, Floats, Ints

_SMALL = 1e-9  # in denominators
_TINY = 1e-15  # in numerators, so that nothing guessed gives about nothing


def closest_lengths(hypotheses: Ints, references: Ints, first: Ints) -> Ints:
    """For each hypothesis the reference length closest to its own, the shorter of two equally close: (I,).

    hypotheses: (I,) lengths. references: (S,) lengths, image by image. first: (I,) each image's first reference.
    """
    own = np.repeat(hypotheses, np.diff(first, append=len(references)))  # (S,)
    bound = references.max() + 1
    return np.minimum.reduceat(abs(references - own) * bound + references, first) % bound


def bleu(correct: Floats, hypotheses: Ints, references: Ints) -> Floats:
    """BLEU-1 to BLEU-4 of each row: (I, ORDERS). A corpus is one row, of sums.

    correct: (I, ORDERS), clipped matches. hypotheses, references: (I,), a hypothesis' length and its closest
    reference's.
    """
    guessed = np.maximum(hypotheses[:, None] - np.arange(ORDERS), 0)
    return _bleu(correct, guessed, hypotheses, references)


def corpus_bleu(correct: Floats, hypotheses: Ints, references: Ints) -> Floats:
    """BLEU-1 to BLEU-4 of the corpus: (ORDERS,). Arguments as for `bleu`."""
    guessed = np.maximum(hypotheses[:, None] - np.arange(ORDERS), 0)
    totals = (values.sum(0, keepdims=True) for values in (correct, guessed, hypotheses, references))
    return _bleu(*totals)[0]


def _bleu(correct: Floats, guessed: Ints, hypotheses: Ints, references: Ints) -> Floats:
    precision = np.cumprod((correct + _TINY) / (guessed + _SMALL), axis=1) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (hypotheses + _TINY) / (references + _SMALL)
    return precision * np.exp(np.minimum(1 - 1 / ratio, 0))[:, None]

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
    closest: Ints = np.minimum.reduceat(abs(references - own) * bound + references, first) % bound
    return closest


def bleu(correct: Floats, hypotheses: Ints, references: Ints) -> Floats:
    """BLEU-1 to BLEU-4 of each image: (I, ORDERS).

    correct: (I, ORDERS), clipped matches. hypotheses, references: (I,), a hypothesis' length and its closest
    reference's.
    """
    return _bleu(correct, _guessed(hypotheses), hypotheses, references)


def corpus_bleu(correct: Floats, hypotheses: Ints, references: Ints) -> Floats:
    """BLEU-1 to BLEU-4 of the corpus: (ORDERS,). Arguments as for `bleu`."""
    return _bleu(correct.sum(0), _guessed(hypotheses).sum(0), hypotheses.sum(), references.sum())


def _guessed(lengths: Ints) -> Ints:
    """How many n-grams of each order a hypothesis has: (I, ORDERS)."""
    guessed: Ints = np.maximum(lengths[:, None] - np.arange(ORDERS), 0)
    return guessed


def _bleu(correct: Floats, guessed: Ints, hypothesis: Ints, reference: Ints) -> Floats:
    """correct, guessed: (..., ORDERS). hypothesis, reference: (...), their lengths."""
    products = ((correct + _TINY) / (guessed + _SMALL)).cumprod(-1)
    ratio = (hypothesis + _TINY) / (reference + _SMALL)
    brevity = np.exp(np.minimum(1 - 1 / ratio, 0))[..., None]
    scores: Floats = products ** (1 / np.arange(1, ORDERS + 1)) * brevity
    return scores

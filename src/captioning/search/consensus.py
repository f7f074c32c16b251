"""Consensus: the caption that is most like the others that were found, not the likeliest.

Minimum Bayes risk (Kumar and Byrne 2004), as Devlin et al. 2015 ("Exploring nearest neighbor approaches for image
captioning") rank candidates. What a caption risks is to be unlike those that people would write; the other hypotheses
stand for these, and likeness is the cosine of CIDEr with the Gaussian of CIDEr-D, without its clipping (Vedantam et al.
2015). What a hypothesis of a search counts is a power of its probability (Ehling et al. 2007, "Minimum Bayes risk
decoding for BLEU"; the scaling factor there): the probability itself lets the first few decide alone.

A model does not know document frequencies. But its vocabulary is in the order of frequency, and the r-th commonest word
is about as rare as r is large (Zipf's law): the idf of an n-gram is log(1 + the rank of its rarest word) here.

N captions, G different n-grams.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from captioning.data.text.vocabulary import UNK
from captioning.metrics import elementary
from captioning.metrics.cider import SIGMA
from captioning.metrics.ngrams import ORDERS, Floats
from captioning.search.base import Hypothesis

Ids = tuple[int, ...]

SEARCHED, DRAWN = 0.4, 0.0  # power of a probability: chosen on validation; what is drawn comes as often as is likely
_DIGITS = 9  # of a score: sums of two machines differ later, and must not decide between equals


def by_consensus(hypotheses: Sequence[Hypothesis], power: float) -> list[Hypothesis]:
    """The hypotheses, each with its mean likeness to all of them as its score, 0 to 1.

    Each counts its probability ** power. One that was drawn twice counts twice.
    """
    if not hypotheses:
        return []
    expected = likeness([found.ids for found in hypotheses]) @ _weights(hypotheses, power)  # (N,)
    return [
        replace(found, score=float(score)) for found, score in zip(hypotheses, expected.round(_DIGITS), strict=True)
    ]


def _weights(hypotheses: Sequence[Hypothesis], power: float) -> Floats:
    """What each counts, of 1: (N,)."""
    nats = np.array([found.log_probability for found in hypotheses])
    scaled = elementary.exp(power * (nats - nats.max()))
    return scaled / math.fsum(scaled)


def likeness(captions: Sequence[Ids]) -> Floats:
    """How like each two captions are, symmetric, 0 to 1: (N, N).

    For each n of 1 to 4 the cosine of their n-grams' counts times idf, the mean over n; times a Gaussian in the
    difference of their lengths. Of a size that a caption is too short for, it has nothing in common with any.
    """
    total = np.zeros((len(captions), len(captions)))
    for size in range(1, ORDERS + 1):
        weighed = _weighed(captions, size)
        norms = np.sqrt((weighed**2).sum(1))  # (N,)
        both = norms[:, None] * norms
        total += np.divide(weighed @ weighed.T, both, out=np.zeros_like(both), where=both > 0)
    lengths = np.array([len(ids) for ids in captions])
    return total / ORDERS * elementary.exp(-((lengths[:, None] - lengths) ** 2) / (2 * SIGMA**2))


def _weighed(captions: Sequence[Ids], size: int) -> Floats:
    """Counts times idf of the n-grams of a size: (N, G)."""
    numbers: dict[Ids, int] = {}
    places = [
        [numbers.setdefault(ids[start : start + size], len(numbers)) for start in range(len(ids) - size + 1)]
        for ids in captions
    ]
    counts = np.zeros((len(captions), len(numbers)))
    for row, columns in enumerate(places):
        np.add.at(counts[row], columns, 1)
    ranks = np.array([max(ngram) for ngram in numbers], dtype=np.float64) - UNK  # 1 of the commonest word
    return counts * elementary.log(1 + ranks)

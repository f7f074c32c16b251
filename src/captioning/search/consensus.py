"""Consensus: the caption that is most like the other candidates, not the likeliest.

Minimum Bayes risk (Kumar and Byrne 2004), as Devlin et al. 2015 ("Exploring nearest neighbor approaches for image
captioning") rank candidates. What a caption risks is to be unlike those that people would write; the other hypotheses
stand for these, and likeness is the cosine of CIDEr with the Gaussian of CIDEr-D, without its clipping (Vedantam et al.
2015). What a hypothesis of a search counts is a power of its probability (Ehling et al. 2007, "Minimum Bayes risk
decoding for BLEU"; the scaling factor there): the probability itself lets the first few decide alone.

A model has no document frequencies. But its vocabulary has the order of frequency, and the r-th commonest word
is about as rare as r is large (Zipf's law): the idf of an n-gram is log(1 + the rank of its rarest word) here.

N captions.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from captioning.data.text.vocabulary import Vocabulary
from captioning.metrics import elementary
from captioning.metrics.cider import SIGMA
from captioning.metrics.ngrams import Floats, Numbering, count, lengths
from captioning.metrics.tfidf import Pairs, TfIdf, Weighed, cosine, match
from captioning.search.base import Hypothesis

Ids = tuple[int, ...]

SEARCHED, DRAWN = 0.4, 0.0  # power of a probability: selected on validation; what is drawn comes as often as is likely
_DIGITS = 9  # of a score: sums of two machines differ later, and must not decide between equals


def by_consensus(hypotheses: Sequence[Hypothesis], power: float, vocabulary: Vocabulary) -> list[Hypothesis]:
    """The hypotheses, each with its mean likeness to all of them as its score, 0 to 1.

    Each counts its probability ** power. One that was drawn twice counts twice.
    """
    if not hypotheses:
        return []
    expected = likeness([hypothesis.ids for hypothesis in hypotheses], vocabulary) @ weights(hypotheses, power)  # (N,)
    return [
        replace(hypothesis, score=float(score))
        for hypothesis, score in zip(hypotheses, expected.round(_DIGITS), strict=True)
    ]


def weights(hypotheses: Sequence[Hypothesis], power: float) -> Floats:
    """What each of at least one counts, its probability ** power, of 1: (N,)."""
    nats = np.array([hypothesis.log_probability for hypothesis in hypotheses])
    scaled = elementary.exp(power * (nats - nats.max()))
    return scaled / math.fsum(scaled)


def likeness(captions: Sequence[Ids], vocabulary: Vocabulary) -> Floats:
    """How like each two captions are, symmetric, 0 to 1: (N, N).

    The cosine of CIDEr, with a Gaussian in the difference of their words.
    """
    ours, size = _weighed(captions, vocabulary), len(captions)
    pairs = Pairs(np.zeros(size, np.int64), np.full(size, size))  # each with all
    return cosine(ours, ours, pairs, match(ours, ours, pairs), clipped=False, sigma=SIGMA).reshape(size, size)


def _weighed(captions: Sequence[Ids], vocabulary: Vocabulary) -> Weighed:
    """The captions' n-grams, with the idf that the ranks of their words give."""
    known, words = np.unique(np.array([*chain.from_iterable(captions)], np.int64), return_inverse=True)
    numbering, sizes = Numbering(len(known)), lengths(captions)
    counts = count(words, sizes, numbering.learn)
    ranks = [vocabulary.ranks(known)[rarest] for rarest in numbering.highest_words()]
    return TfIdf([1.0 + rank for rank in ranks]).weigh(counts, sizes)

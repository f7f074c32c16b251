"""Consensus: the caption that is most like the others that were found, not the likeliest.

Minimum Bayes risk (Kumar and Byrne 2004), as Devlin et al. 2015 ("Exploring nearest neighbor approaches for image
captioning") rank candidates. What a caption risks is to share no n-grams with those that people would write; the other
hypotheses stand for these.

N captions, G different n-grams.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from captioning.metrics.ngrams import ORDERS, Floats
from captioning.search.base import Hypothesis

Ids = tuple[int, ...]


def by_consensus(hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The hypotheses, each with its mean overlap with all of them as its score, 0 to 1.

    One that was drawn twice counts twice.
    """
    scores = overlaps([found.ids for found in hypotheses]).mean(1) if hypotheses else []
    return [replace(found, score=float(score)) for found, score in zip(hypotheses, scores, strict=True)]


def overlaps(captions: Sequence[Ids]) -> Floats:
    """How much of their n-grams each two captions share: F1, the mean over n of 1 to 4, symmetric, 0 to 1: (N, N).

    Where neither has an n-gram of a size, for both are short, they share nothing of that size.
    """
    total = np.zeros((len(captions), len(captions)))
    for size in range(1, ORDERS + 1):
        numbers: dict[tuple[Ids, int], int] = {}
        places = [[numbers.setdefault(key, len(numbers)) for key in _occurrences(ids, size)] for ids in captions]
        had = np.zeros((len(captions), len(numbers)))  # (N, G)
        for row, columns in enumerate(places):
            had[row, columns] = 1
        sizes = had.sum(1)  # (N,)
        both = sizes[:, None] + sizes
        total += np.divide(2 * had @ had.T, both, out=np.zeros_like(both), where=both > 0)
    return total / ORDERS


def _occurrences(ids: Ids, size: int) -> Iterator[tuple[Ids, int]]:
    """Each n-gram with how often it came before, so that those of two captions that are equal are those they share."""
    before = Counter[Ids]()
    for start in range(len(ids) - size + 1):
        ngram = ids[start : start + size]
        yield ngram, before[ngram]
        before[ngram] += 1

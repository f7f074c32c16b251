"""tf-idf of n-grams, and the cosine of two sentences: what CIDEr-D, the training reward and consensus are made of.

A sentence is one vector for each order of n-grams, count times idf (Vedantam et al. 2015).

E entries (an n-gram of a sentence), M matches (an n-gram that both sentences of a pair have), Q pairs of one of our
sentences and one of theirs, S sentences. Orders 1 to 4 are counted from 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from captioning.metrics import elementary
from captioning.metrics.ngrams import Counts, Floats, Ints, cell_keys, sums


class Weighed(NamedTuple):
    """Some sentences: n-grams, idf (E,) of each, norms (S, ORDERS) of the vectors, and lengths (S,)."""

    counts: Counts
    idf: Floats
    norms: Floats
    lengths: Ints


class Pairs(NamedTuple):
    """Which of our sentences are compared with which of theirs, each (Q,), ascending by ours, then by theirs."""

    ours: Ints
    theirs: Ints


class Matches(NamedTuple):
    """What the sentences of pairs have in common, each (M,)."""

    pair: Ints
    entry: Ints  # of their n-grams
    count: Ints  # in our sentence


class TfIdf:
    """The idf of n-grams: a table of each order, by number. A number beyond a table has the table's last value."""

    def __init__(self, idf: Sequence[Floats]) -> None:
        sizes = np.array([len(table) for table in idf])
        self._table, self._last, self._first = np.concatenate(idf), sizes - 1, np.cumsum(sizes) - sizes

    @classmethod
    def of_frequencies(cls, frequencies: Sequence[Ints], images: int) -> "TfIdf":
        """log(images / frequency). frequencies: how many images have each n-gram; 0 counts as 1."""
        return cls([elementary.log(images / np.maximum(table, 1)) for table in frequencies])

    def weigh(self, counts: Counts, lengths: Ints) -> Weighed:
        """Sentences with their n-grams. lengths: (S,), in whatever unit `cosine` shall compare them."""
        idf = self._table[self._first[counts.order] + np.minimum(counts.ngram, self._last[counts.order])]
        squares = sums(counts.sentence, counts.order, (counts.count * idf) ** 2, len(lengths))
        return Weighed(counts, idf, np.sqrt(squares), lengths)


def cosine(ours: Weighed, theirs: Weighed, pairs: Pairs, matches: Matches, *, clipped: bool, sigma: float) -> Floats:
    """How like the sentences of each pair are, 0 to 1: (Q,).

    The mean over orders of the cosine, times a Gaussian of width `sigma` in the difference of lengths. Of an order that
    a sentence is too short for, it has nothing in common with any. clipped: what our sentence says more often than
    theirs counts as often as in theirs, as CIDEr-D wants it.
    """
    entry, said = matches.entry, matches.count
    referred = theirs.counts.count[entry]
    products = (np.minimum(said, referred) if clipped else said) * referred * theirs.idf[entry] ** 2
    cosines = sums(matches.pair, theirs.counts.order[entry], products, len(pairs.ours))
    norms = ours.norms[pairs.ours] * theirs.norms[pairs.theirs]
    np.divide(cosines, norms, out=cosines, where=norms != 0)
    longer = ours.lengths[pairs.ours] - theirs.lengths[pairs.theirs]
    return cosines.mean(1) * elementary.exp(-(longer**2) / (2 * sigma**2))


def match(ours: Weighed, theirs: Weighed, image_of: Pairs, pairs: Pairs) -> Matches:
    """All n-grams that the sentences of `pairs` have in common, by our sentence, order and n-gram.

    image_of: the images of our sentences and of theirs. `pairs` are all those of one image.
    """
    keys = cell_keys(image_of.theirs[theirs.counts.sentence], theirs.counts)
    order = np.argsort(keys, kind="stable")
    wanted = cell_keys(image_of.ours[ours.counts.sentence], ours.counts)
    first = np.searchsorted(keys[order], wanted)
    found = np.searchsorted(keys[order], wanted, side="right") - first
    own = np.repeat(np.arange(len(wanted)), found)
    entry = order[np.repeat(first, found) + within(found)]
    sentences = len(theirs.lengths)
    pair_keys = pairs.ours * sentences + pairs.theirs
    pair = np.searchsorted(pair_keys, ours.counts.sentence[own] * sentences + theirs.counts.sentence[entry])
    return Matches(pair, entry, ours.counts.count[own])


def within(sizes: Ints) -> Ints:
    """0, 1, 2, … in each of several runs, laid end to end."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)

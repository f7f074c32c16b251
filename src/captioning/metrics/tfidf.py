"""tf-idf of n-grams, and the cosine of two sentences: what CIDEr-D, the training reward and consensus are made of.

A sentence is one vector for each order of n-grams, count times idf (Vedantam et al. 2015).

E entries (an n-gram of a sentence), M matches (an n-gram that both sentences of a pair have), Q pairs of one of our
sentences and one of theirs, S sentences. Orders 1 to 4 are counted from 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from captioning.metrics import elementary
from captioning.metrics.ngrams import Counts, Floats, Ints, cell_keys, sums


class Weighed(NamedTuple):
    """Some sentences: n-grams, idf (E,) of each, norms (S, ORDERS) of the vectors, and lengths (S,)."""

    counts: Counts
    idf: Floats
    norms: Floats
    lengths: Ints


class Pairs:
    """Each of our sentences with a run of theirs, `count` (N,) from `first` (N,) on.

    Two of our sentences have the same run, or none of theirs in common. Attributes beside these: `ours` and `theirs`,
    the sentences of each pair, (Q,).
    """

    def __init__(self, first: Ints, count: Ints) -> None:
        self.first, self.count = first, count
        self.ours = np.repeat(np.arange(len(first)), count)
        self.theirs = first[self.ours] + within(count)

    def place(self, ours: Ints, theirs: Ints) -> Ints:
        """The number of each pair of one of our sentences and one of its run: (M,)."""
        shift = np.cumsum(self.count) - self.count - self.first  # (N,)
        return shift[ours] + theirs


class Matches(NamedTuple):
    """What the sentences of pairs have in common, each (M,)."""

    pair: Ints
    entry: Ints  # of their n-grams
    said: Ints  # times in our sentence


class TfIdf:
    """The idf of n-grams: log(rarity), with a table of rarities for each order, by number.

    A number beyond a table is as rare as the table's last.
    """

    def __init__(self, rarity: Sequence[npt.NDArray[np.floating]]) -> None:
        sizes = np.array([len(table) for table in rarity])
        self._table, self._last = elementary.log(np.concatenate(rarity)), sizes - 1
        self._first = np.cumsum(sizes) - sizes

    @classmethod
    def of_frequencies(cls, frequencies: Sequence[Ints], images: int) -> "TfIdf":
        """log(images / frequency). frequencies: how many images have each n-gram; 0 counts as 1."""
        return cls([images / np.maximum(table, 1) for table in frequencies])

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
    entry, own_counts = matches.entry, matches.said
    referred = theirs.counts.count[entry]
    products = (np.minimum(own_counts, referred) if clipped else own_counts) * referred * theirs.idf[entry] ** 2
    cosines = sums(matches.pair, theirs.counts.order[entry], products, len(pairs.ours))  # (Q, ORDERS)
    norms = ours.norms[pairs.ours] * theirs.norms[pairs.theirs]
    np.divide(cosines, norms, out=cosines, where=norms != 0)
    longer = ours.lengths[pairs.ours] - theirs.lengths[pairs.theirs]
    similar: Floats = cosines.mean(1) * elementary.exp(-(longer**2) / (2 * sigma**2))
    return similar


def match(ours: Weighed, theirs: Weighed, pairs: Pairs) -> Matches:
    """All n-grams that the sentences of `pairs` have in common, by our sentence, order and n-gram."""
    run = np.full(len(theirs.lengths), -1)  # the first of the run that each of theirs is in; -1: in none
    run[pairs.theirs] = pairs.first[pairs.ours]
    keys = cell_keys(run[theirs.counts.sentence], theirs.counts)
    order = np.argsort(keys, kind="stable")
    wanted, keys = cell_keys(pairs.first[ours.counts.sentence], ours.counts), keys[order]
    first = np.searchsorted(keys, wanted)
    counts = np.searchsorted(keys, wanted, side="right") - first
    own = np.repeat(np.arange(len(wanted)), counts)
    entry = order[first[own] + within(counts)]
    return Matches(pairs.place(ours.counts.sentence[own], theirs.counts.sentence[entry]), entry, ours.counts.count[own])


def within(sizes: Ints) -> Ints:
    """0, 1, 2, … in each of several runs, laid end to end."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)

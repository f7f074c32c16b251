"""CIDEr-D (Vedantam et al. 2015), which coco-caption calls CIDEr: tf-idf over n-grams, clipped, Gaussian in length.

No stemming; the document frequency of an n-gram is the number of images whose references have it. With one image alone
every frequency is 1 = the number of images, every idf is log 1 = 0, and so is the score.

I images, N hypotheses, S references; C and E as in `ngrams`.
"""

import numpy as np

from captioning.metrics.ngrams import Cells, Counts, Floats, Ints, Ngrams, sums
from captioning.metrics.tfidf import Matches, Pairs, TfIdf, Weighed, cosine

SIGMA = 6.0
SCALE = 10.0


def cider_d(hypotheses: Weighed, references: Weighed, pairs: Pairs, matches: Matches) -> Floats:
    """CIDEr-D of each hypothesis against the references that it is paired with, at least one: (N,)."""
    likeness = cosine(hypotheses, references, pairs, matches, clipped=True, sigma=SIGMA)
    return SCALE * np.bincount(pairs.ours, likeness, len(pairs.count)) / pairs.count


def bigrams(lengths: Ints) -> Ints:
    """Bigrams of sentences of so many words: coco-caption's length."""
    return np.maximum(lengths - 1, 0)


class Cider:
    """The references' side, made once: idf, and each reference's weights and norms.

    lengths: (S,) words of each reference, image by image. first, sizes: (I,) of each image's references.
    """

    def __init__(self, ngrams: Ngrams, cells: Cells, lengths: Ints, first: Ints, sizes: Ints) -> None:
        self._cells, self._pairs = cells, Pairs(first, sizes)
        self._idf = TfIdf.of_frequencies(_frequencies(ngrams, cells), len(sizes))
        weighed = self._idf.weigh(ngrams.counts, bigrams(lengths))
        self._references = weighed._replace(norms=_norms(weighed))

    def score(self, hypotheses: Counts, lengths: Ints, matches: Ints) -> Floats:
        """CIDEr-D of each image: (I,).

        hypotheses: their n-grams. lengths: (I,) their words. matches: (C,) from `Cells.match`.
        """
        own = matches[self._cells.of_entry]  # (E,), the hypothesis' count of a reference's n-gram
        entry = np.flatnonzero(own > 0)
        shared = Matches(self._references.counts.sentence[entry], entry, own[entry])
        return cider_d(self._idf.weigh(hypotheses, bigrams(lengths)), self._references, self._pairs, shared)


def _frequencies(ngrams: Ngrams, cells: Cells) -> list[Ints]:
    """How many images have each n-gram, by order and number; the last number is for all that none has."""
    return [
        np.bincount(cells.ngram[cells.order == order], minlength=size + 1) for order, size in enumerate(ngrams.sizes)
    ]


def _norms(references: Weighed) -> Floats:
    """(S, ORDERS), as `TfIdf.weigh` gives them, but for the last bit of n-grams that a reference has three times.

    The square is rounded after idf², not after count times idf. Published scores are of this rounding.
    """
    counts, idf, _, lengths = references
    return np.sqrt(sums(counts.sentence, counts.order, counts.count**2 * idf**2, len(lengths)))

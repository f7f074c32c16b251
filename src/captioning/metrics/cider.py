"""CIDEr-D (Vedantam et al. 2015), which coco-caption calls CIDEr: tf-idf over n-grams, clipped, Gaussian in length.

No stemming; the document frequency of an n-gram is the number of images whose references have it. With one image alone
every frequency is 1 = the number of images, every idf is log 1 = 0, and so is the score.
"""

import math

import numpy as np

from captioning.metrics import elementary
from captioning.metrics.ngrams import Cells, Counts, Floats, Ints, Ngrams, sums

SIGMA = 6.0
SCALE = 10.0


class Cider:
    """The references' side, made once: idf, and each reference's norms (S, ORDERS) and weights.

    lengths: (S,) words of each reference. image_of: (S,) its image. images: how many there are.
    """

    def __init__(self, ngrams: Ngrams, cells: Cells, lengths: Ints, image_of: Ints, images: int) -> None:
        counts = ngrams.counts
        self._counts, self._cells, self._lengths, self._image_of, self._images = (
            counts,
            cells,
            lengths,
            image_of,
            images,
        )
        self._sizes, self._offsets = ngrams.sizes, np.cumsum(ngrams.sizes) - ngrams.sizes
        numbers = self._offsets[cells.order] + cells.ngram  # (C,), all orders in one
        self._no_frequency = math.log(images)
        frequencies = np.bincount(numbers, minlength=int(ngrams.sizes.sum()))
        self._idf = elementary.log(images / frequencies)  # 0, exactly, for df = I
        self._idf2 = self._idf[numbers][cells.of_entry] ** 2  # (E,)
        self._norms = np.sqrt(sums(counts.sentence, counts.order, counts.count**2 * self._idf2, len(lengths)))

    def score(self, hypotheses: Counts, lengths: Ints, matches: Ints) -> Floats:
        """CIDEr-D of each image: (I,).

        hypotheses: their n-grams. lengths: (I,) their words. matches: (C,) from `Cells.match`.
        """
        counts = self._counts
        own = matches[self._cells.of_entry]  # (E,), the hypothesis' count of a reference's n-gram
        products = np.minimum(own, counts.count) * counts.count * self._idf2
        cosine = sums(counts.sentence, counts.order, products, len(self._lengths))  # (S, ORDERS)
        norms = self._norms * self._hypothesis_norms(hypotheses)[self._image_of]
        np.divide(cosine, norms, out=cosine, where=norms != 0)
        pairs = np.maximum(lengths - 1, 0)[self._image_of] - np.maximum(self._lengths - 1, 0)  # coco-caption's length
        similar = cosine.mean(1) * elementary.exp(-(pairs**2) / (2 * SIGMA**2))  # (S,)
        totals = np.bincount(self._image_of, similar, self._images)
        return SCALE * totals / np.bincount(self._image_of, minlength=self._images)

    def _hypothesis_norms(self, hypotheses: Counts) -> Floats:
        """(I, ORDERS). An n-gram that no reference has counts as if one image had it."""
        idf = np.full(len(hypotheses.ngram), self._no_frequency)
        known = hypotheses.ngram < self._sizes[hypotheses.order]
        idf[known] = self._idf[self._offsets[hypotheses.order[known]] + hypotheses.ngram[known]]
        return np.sqrt(sums(hypotheses.sentence, hypotheses.order, (hypotheses.count * idf) ** 2, self._images))

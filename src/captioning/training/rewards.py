"""The reward of self-critical training: CIDEr-D of captions as ids (Vedantam et al. 2015), as `metrics` computes it.

Document frequencies are those of the training captions: how many training images have an n-gram. Words outside the
vocabulary are `<unk>`. `<eos>` is a word of captions and references alike; without it captions learn to end in
"with a" (Rennie et al. 2017).

B images, E entries (an n-gram of a caption), N captions, Q pairs of a caption and a reference of its image,
R references, T tokens.
"""

from typing import NamedTuple

import numpy as np

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import PAD, Vocabulary
from captioning.metrics import elementary
from captioning.metrics.cider import SCALE, SIGMA
from captioning.metrics.ngrams import SHIFT, Counts, Floats, Ints, Numbering, cell_keys, count, numbered, sums
from captioning.system.errors import UserError


class _Weighed(NamedTuple):
    """Some captions: n-grams, idf (E,) of each, norms (N, ORDERS), bigrams (N,), which are coco-caption's length."""

    counts: Counts
    idf: Floats
    norms: Floats
    bigrams: Ints


class CiderReward:
    """CIDEr-D against the training captions of an image: 0 to 10. It is made once a training (benchmarks: how long).

    Raises UserError when `captions`, those of training, say ids that `vocabulary` does not have.
    """

    def __init__(self, captions: EncodedCaptions, vocabulary: Vocabulary) -> None:
        highest = int(captions.tokens.max())
        if highest >= len(vocabulary):
            raise UserError(
                f"the training captions have word id {highest}, but the vocabulary ends at {len(vocabulary) - 1}: "
                "they were encoded with another one; run `dvc repro split`"
            )
        self._captions, self._vocabulary = captions, vocabulary.sha256
        self._order = np.argsort(captions.image, kind="stable")  # captions by image
        self._image = captions.image[self._order]
        self._numbering = Numbering(len(vocabulary))
        images = len(np.unique(captions.image))
        self._idf = [elementary.log(images / np.maximum(had, 1)) for had in self._frequencies()]

    def check(self, vocabulary: Vocabulary) -> None:
        """Raise UserError unless document frequencies were counted with `vocabulary`, so that ids mean the same."""
        if vocabulary.sha256 != self._vocabulary:
            raise UserError(
                f"the reward's document frequencies are of another vocabulary (sha256 {self._vocabulary[:12]}) than "
                f"the model's ({vocabulary.sha256[:12]}); count them with the model's own"
            )

    def _frequencies(self) -> list[Ints]:
        """How many images have each n-gram, by order and number; the last number is for all that none has."""
        words, lengths = _after_bos(self._captions, np.arange(len(self._captions)))
        image = np.repeat(self._captions.image.astype(np.int64), lengths)
        frequencies: list[Ints] = []
        for starts, ngram in numbered(words, lengths, self._numbering.learn):
            pairs = np.sort(image[starts] << SHIFT | ngram)
            once = pairs[np.diff(pairs, prepend=-1) != 0] & (1 << SHIFT) - 1
            frequencies.append(np.bincount(once, minlength=self._numbering.sizes[len(frequencies)] + 1))
        return frequencies

    def score(self, rows: Ints, tokens: Ints, owner: Ints) -> Floats:
        """CIDEr-D of each caption, (N,).

        rows (B,): images, as rows of images.csv, which have training captions. tokens (N, T): captions without `<bos>`,
        with `<eos>` if they came to an end, then `<pad>`. owner (N,): the index of a caption's image in `rows`.
        """
        first = np.searchsorted(self._image, rows)
        people = np.searchsorted(self._image, rows, side="right") - first  # (B,) references of each image
        references = self._order[np.repeat(first, people) + _within(people)]  # (R,)
        theirs = self._weigh(*_after_bos(self._captions, references))
        words = tokens != PAD
        ours = self._weigh(tokens[words], words.sum(1))
        pairs = people[owner]  # (N,) of each caption
        caption = np.repeat(np.arange(len(tokens)), pairs)  # (Q,)
        reference = np.repeat((np.cumsum(people) - people)[owner], pairs) + _within(pairs)  # (Q,)
        cosine = _products(ours, theirs, owner, np.repeat(np.arange(len(rows)), people), caption, reference)
        norms = ours.norms[caption] * theirs.norms[reference]
        np.divide(cosine, norms, out=cosine, where=norms != 0)
        longer = ours.bigrams[caption] - theirs.bigrams[reference]
        similar = cosine.mean(1) * elementary.exp(-(longer**2) / (2 * SIGMA**2))  # (Q,)
        return SCALE * np.bincount(caption, similar, len(tokens)) / pairs

    def _weigh(self, words: Ints, lengths: Ints) -> _Weighed:
        """Captions laid end to end, with the words of each (N,)."""
        counts = count(words, lengths, self._numbering.look_up)
        idf = np.empty(len(counts.ngram))
        for order, table in enumerate(self._idf):
            here = counts.order == order
            idf[here] = table[np.minimum(counts.ngram[here], len(table) - 1)]
        norms = np.sqrt(sums(counts.sentence, counts.order, (counts.count * idf) ** 2, len(lengths)))
        return _Weighed(counts, idf, norms, np.maximum(lengths - 1, 0))


def _products(ours: _Weighed, theirs: _Weighed, owner: Ints, image: Ints, caption: Ints, reference: Ints) -> Floats:
    """The clipped products of all pairs of a caption and a reference of its image, by order: (Q, ORDERS).

    owner (N,), image (R,): the image of each caption and reference. caption, reference (Q,): the pairs, in order.
    """
    keys = cell_keys(image[theirs.counts.sentence], theirs.counts)
    order = np.argsort(keys, kind="stable")
    wanted = cell_keys(owner[ours.counts.sentence], ours.counts)
    first = np.searchsorted(keys[order], wanted)
    matches = np.searchsorted(keys[order], wanted, side="right") - first
    entry = np.repeat(np.arange(len(wanted)), matches)
    match = order[np.repeat(first, matches) + _within(matches)]
    pair_keys = caption * len(image) + reference  # ascending
    pair = np.searchsorted(pair_keys, ours.counts.sentence[entry] * len(image) + theirs.counts.sentence[match])
    counted, referred = ours.counts.count[entry], theirs.counts.count[match]
    values = np.minimum(counted, referred) * referred * theirs.idf[match] ** 2
    return sums(pair, ours.counts.order[entry], values, len(caption))


def _after_bos(captions: EncodedCaptions, numbers: Ints) -> tuple[Ints, Ints]:
    """The ids of the captions of these numbers without `<bos>`, laid end to end, and how many each has."""
    lengths = captions.lengths[numbers] - 1
    return captions.tokens[np.repeat(captions.offsets[numbers] + 1, lengths) + _within(lengths)], lengths


def _within(sizes: Ints) -> Ints:
    """0, 1, 2, … in each of several runs, laid end to end."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)

"""The reward of self-critical training: CIDEr-D of captions as ids (Vedantam et al. 2015), as `metrics` computes it.

Document frequencies are those of the training captions: how many training images have an n-gram. Words outside the
vocabulary are `<unk>`. `<eos>` is a word of captions and references alike; without it captions learn to end in
"with a" (Rennie et al. 2017).

B images, N captions, R references, T tokens.
"""

import numpy as np

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.metrics.cider import bigrams, cider_d
from captioning.metrics.ngrams import Floats, Ints, Numbering, count, numbered, pack, unpack
from captioning.metrics.tfidf import Pairs, TfIdf, Weighed, match, within
from captioning.system.errors import UserError


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
        self._pad = vocabulary.special.pad
        self._order = np.argsort(captions.image, kind="stable")  # captions by image
        self._image = captions.image[self._order]
        self._numbering = Numbering(len(vocabulary))
        self._idf = TfIdf.of_frequencies(self._frequencies(), len(np.unique(captions.image)))

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
            occurrences = np.sort(pack(image[starts], ngram))
            _, once = unpack(occurrences[np.diff(occurrences, prepend=-1) != 0])
            frequencies.append(np.bincount(once, minlength=self._numbering.sizes[len(frequencies)] + 1))
        return frequencies

    def score(self, rows: Ints, tokens: Ints, owner: Ints) -> Floats:
        """CIDEr-D of each caption, (N,).

        rows (B,): images, as rows of images.csv, which have training captions. tokens (N, T): captions without `<bos>`,
        with `<eos>` if they came to an end, then `<pad>`. owner (N,): the index of a caption's image in `rows`.
        """
        first = np.searchsorted(self._image, rows)
        people = np.searchsorted(self._image, rows, side="right") - first  # (B,) references of each image
        references = self._order[np.repeat(first, people) + within(people)]  # (R,)
        theirs = self._weigh(*_after_bos(self._captions, references))
        words = tokens != self._pad
        ours = self._weigh(tokens[words], words.sum(1))
        pairs = Pairs((np.cumsum(people) - people)[owner], people[owner])
        return cider_d(ours, theirs, pairs, match(ours, theirs, pairs))

    def _weigh(self, words: Ints, lengths: Ints) -> Weighed:
        """Captions laid end to end, with the words of each (N,)."""
        return self._idf.weigh(count(words, lengths, self._numbering.look_up), bigrams(lengths))


def _after_bos(captions: EncodedCaptions, numbers: Ints) -> tuple[Ints, Ints]:
    """The ids of the captions of these numbers without `<bos>`, laid end to end, and how many each has."""
    lengths = captions.lengths[numbers] - 1
    return captions.tokens[np.repeat(captions.offsets[numbers] + 1, lengths) + within(lengths)], lengths

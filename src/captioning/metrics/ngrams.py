"""One n-gram pass that BLEU and CIDEr share: n-grams are numbered once, and everything after is arithmetic on arrays.

Axes: T tokens of all sentences, S sentences, I images, E entries (an n-gram of a sentence), C cells (an n-gram of an
image's references). Orders 1 to 4 are counted from 0.
"""

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDERS = 4

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Number = Callable[[int, Ints], Ints]
"""Gives numbers to the keys of one order."""

_SHIFT = 32  # bits of the lower of two numbers in one key
_LAST = np.iinfo(np.int64).max  # closes a sorted table, so that every search ends inside it


def pack(first: Ints, second: Ints) -> Ints:
    """Two arrays of numbers in one of keys, which sort as the pairs do; each is below 2**31, and not negative."""
    return first << _SHIFT | second


def unpack(keys: Ints) -> tuple[Ints, Ints]:
    """Both numbers of each key that `pack` made."""
    return keys >> _SHIFT, keys & (1 << _SHIFT) - 1


@dataclass(frozen=True)
class Counts:
    """How often each n-gram occurs in each sentence, one entry a pair; all arrays are (E,)."""

    sentence: Ints
    order: Ints
    ngram: Ints  # its number among n-grams of its order
    count: Ints


class Numbering:
    """Numbers for n-grams of words that are numbers themselves, below `words`.

    The n-grams of the first text are learnt; in other texts one that was not learnt is numbered from `sizes[order]` up.
    """

    def __init__(self, words: int) -> None:
        self._words, self._tables = words, list[Ints]()

    @property
    def sizes(self) -> Ints:
        """How many n-grams of each order are known: (ORDERS,)."""
        return np.array([self._words, *(len(table) - 1 for table in self._tables)])

    def learn(self, order: int, keys: Ints) -> Ints:
        """Numbers for all keys of an order, one order after another."""
        table, numbers = np.unique(keys, return_inverse=True)
        self._tables.append(np.append(table, _LAST))
        assert len(self._tables) == order
        return numbers

    def look_up(self, order: int, keys: Ints) -> Ints:
        """Numbers for the keys of an order: those learnt, and new ones."""
        table = self._tables[order - 1]
        wanted, back = np.unique(keys, return_inverse=True)  # sorted, so that the search goes through memory once
        numbers = np.searchsorted(table, wanted)
        new = table[numbers] != wanted
        numbers[new] = len(table) - 1 + np.arange(new.sum())
        return numbers[back]

    def highest_words(self) -> list[Ints]:
        """The highest of each known n-gram's words, by order and number."""
        highest = [np.arange(self._words)]
        for table in self._tables:
            before, last = unpack(table[:-1])
            highest.append(np.maximum(highest[-1][before], last))
        return highest


class Ngrams:
    """The n-grams of the references' sentences, numbered; those of other sentences are numbered alike.

    Attributes: `counts` of the references, and `sizes` (ORDERS,), the number of different n-grams of each order. In
    other sentences an n-gram that no reference has is numbered from `sizes[order]` up.
    """

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        self._words: dict[str, int] = {}
        words = [self._words.setdefault(word, len(self._words)) for sentence in sentences for word in sentence]
        self._numbering = Numbering(len(self._words))
        self.counts = count(words, lengths(sentences), self._numbering.learn)
        self.sizes = self._numbering.sizes

    def count(self, sentences: Sequence[Sequence[str]]) -> Counts:
        """Count the n-grams of other sentences, hypotheses."""
        known, new = self._words, dict[str, int]()
        words = [
            known[word] if word in known else new.setdefault(word, len(known) + len(new))
            for sentence in sentences
            for word in sentence
        ]
        return count(words, lengths(sentences), self._numbering.look_up)


class Cells:
    """The references' n-grams gathered by image, ready to be matched with hypotheses.

    image_of: (S,), the image of each reference. Attributes: `image`, `order`, `ngram` and `most` (the highest count in
    one reference), all (C,); `of_entry` (E,), the cell of each entry of `ngrams.counts`.
    """

    def __init__(self, ngrams: Ngrams, image_of: Ints) -> None:
        counts = ngrams.counts
        keys, first, self.of_entry = np.unique(
            cell_keys(image_of[counts.sentence], counts), return_index=True, return_inverse=True
        )
        self._keys = np.append(keys, _LAST)
        self.image = image_of[counts.sentence[first]]
        self.order, self.ngram = counts.order[first], counts.ngram[first]
        self.most = np.zeros(len(keys), np.int64)
        np.maximum.at(self.most, self.of_entry, counts.count)

    def match(self, hypotheses: Counts) -> Ints:
        """How often the hypothesis of the cell's image has the cell's n-gram: (C,). Sentence i is of image i."""
        keys = cell_keys(hypotheses.sentence, hypotheses)
        places = np.searchsorted(self._keys, keys)
        matched = self._keys[places] == keys
        matches = np.zeros(len(self.image), np.int64)
        matches[places[matched]] = hypotheses.count[matched]
        return matches


def lengths(sentences: Sequence[Sized]) -> Ints:
    """The number of words of each sentence: (S,)."""
    return np.fromiter(map(len, sentences), np.int64, len(sentences))


def sums(rows: Ints, orders: Ints, values: npt.NDArray[np.generic], size: int) -> Floats:
    """Add up values by row and order: (size, ORDERS). Exact for integers below 2**53."""
    totals: Floats = np.bincount(rows * ORDERS + orders, values, size * ORDERS).astype(np.float64)
    return totals.reshape(size, ORDERS)


def cell_keys(image: Ints, counts: Counts) -> Ints:
    """Entries as sortable numbers, (E,): by image, order and n-gram. image: (E,)."""
    return pack(image * ORDERS + counts.order, counts.ngram)


def count(words: Sequence[int] | Ints, lengths: Ints, number: Number) -> Counts:
    """Count the n-grams of sentences laid end to end. lengths: (S,) words of each."""
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    parts = []
    for order, (starts, ngram) in enumerate(numbered(words, lengths, number)):
        keys, occurrences = np.unique(pack(sentence[starts], ngram), return_counts=True)
        of_sentence, number_of = unpack(keys)
        parts.append((of_sentence, np.full(len(keys), order), number_of, occurrences))
    return Counts(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def numbered(words: Sequence[int] | Ints, lengths: Ints, number: Number) -> Iterator[tuple[Ints, Ints]]:
    """For each order, the places where an n-gram of sentences laid end to end starts, and its number.

    An n-gram is keyed by its first n-1 words' number and its last word.
    """
    last = np.array(words, np.int64)  # (T,)
    room = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(last))  # words from here to the sentence's end
    ngram = last.copy()
    for order in range(ORDERS):
        starts = np.flatnonzero(room > order)
        if order:
            ngram[starts] = number(order, pack(ngram[starts], last[starts + order]))
        yield starts, ngram[starts]

"""Word pieces (Wu et al. 2016), split as BERT's uncased tokenizer splits them (Devlin et al. 2019).

A word is cleaned, lower-cased, stripped of accents, and split at punctuation. Each part is then read from the left, the
longest known piece first; a piece that goes on with a part begins with `##`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from functools import cache
from itertools import groupby, pairwise

from captioning.data.text.tokenizer import PUNCTUATION

GOES_ON = "##"  # what a piece begins with that does not begin a part
MARKS = frozenset(mark for mark in PUNCTUATION if len(mark) == 1)  # never words, so they stand inside of one
_LONGEST = 100  # characters of a part; a longer one has no pieces
_IDEOGRAPHS = re.compile(  # each is a part of its own
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf"
    "\uf900-\ufaff\U0002f800-\U0002fa1f]"
)


def spell(word: str, known: Container[str]) -> list[str] | None:
    """The pieces of a word, of those that are known; None where they cannot spell it.

    It is tried with its accents first. BERT's uncased vocabularies have no piece with an accent, so there it is always
    spelt without.
    """
    for parts in (_parts(word), _parts(_bare(word))):
        spelt = [_longest_first(part, known) for part in parts]
        if spelt and all(spelt):
            return [piece for pieces in spelt for piece in pieces]
    return None


def is_joined(piece: str, before: str) -> bool:
    """Whether a piece belongs to the word of the piece before it.

    It does if it goes on with a part, and on both sides of a mark that is never a word, as in tri-coloured.
    """
    return piece.startswith(GOES_ON) or piece in MARKS or before in MARKS


def joins(word: str, pieces: list[str]) -> bool:
    """Whether pieces give back exactly this word, wherever it stands in a caption."""
    if pieces[0] in MARKS or pieces[-1] in MARKS or "".join(map(text, pieces)) != word:
        return False
    return all(is_joined(piece, before) for before, piece in pairwise(pieces))


def text(piece: str) -> str:
    """What a piece adds to a caption."""
    return piece.removeprefix(GOES_ON)


def learn(counts: Mapping[str, int], min_count: int) -> set[str]:
    """Pieces that spell the words of training captions, from how often each word occurs.

    A part of a word that occurs at least `min_count` times is a piece. So is what is left of rarer ones after the
    longest such piece, if it occurs as often (`##s`, `##ing`). Single characters spell the rest.
    """
    parts = Counter[str]()
    for word, number in counts.items():
        parts.update(dict.fromkeys(_parts(word), number))
    pieces = {part for part, number in parts.items() if number >= min_count}
    endings = Counter[str]()
    for part in parts.keys() - pieces:
        begin = next((part[:end] for end in range(len(part) - 1, 0, -1) if part[:end] in pieces), part[:1])
        endings[GOES_ON + part[len(begin) :]] += parts[part]
    pieces |= {ending for ending, number in endings.items() if number >= min_count and ending != GOES_ON}
    return pieces | {mark + letter for part in parts for letter in part for mark in ("", GOES_ON)}


def _longest_first(part: str, known: Container[str]) -> list[str]:
    """The pieces of a part; none where they cannot spell it."""
    pieces: list[str] = []
    start, mark = 0, ""
    while start < len(part) <= _LONGEST:
        ends = range(len(part), start, -1)
        end = next((end for end in ends if mark + part[start:end] in known), None)
        if end is None:
            return []
        pieces.append(mark + part[start:end])
        start, mark = end, GOES_ON
    return pieces


@cache
def _bare(word: str) -> str:
    """A word without its accents."""
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if unicodedata.category(letter) != "Mn")


def _parts(word: str) -> list[str]:
    """A word, in lower case, split at punctuation and ideographs, which are parts of their own."""
    return list(_split("".join(letter for letter in word.lower() if not _dropped(letter))))


def _split(word: str) -> Iterator[str]:
    for alone, letters in groupby(word, _stands_alone):
        if alone:
            yield from letters
        else:
            yield "".join(letters)


@cache
def _stands_alone(letter: str) -> bool:
    symbol = letter.isascii() and letter.isprintable() and not letter.isalnum()  # $, +, <, =, >, ^, ` and | too
    return symbol or unicodedata.category(letter)[0] == "P" or bool(_IDEOGRAPHS.match(letter))


@cache
def _dropped(letter: str) -> bool:
    return letter == "\ufffd" or unicodedata.category(letter)[0] == "C"

"""Writing systems: those that put no spaces between words, and characters that nobody sees.

In an unspaced script every letter, with the marks on it, is a word of its own: where words end cannot be seen there.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

_HAN = (
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00016fe2-\U00016ff6\U00020000-\U0003fffd"
)
_KANA = (
    "\u3031-\u3035\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u32d0-\u32fe\u3300-\u3357"
    "\uff66-\uff9f\U0001aff0-\U0001b16f\U0001f200"
)
_THAI, _LAO = "\u0e01-\u0e3a\u0e40-\u0e5b", "\u0e81-\u0edf"
_KHMER, _MYANMAR = (
    "\u1780-\u17da\u17dc-\u17f9\u19e0-\u19ff",
    "\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f\U000116d0-\U000116e3",
)
_UNSPACED = re.compile(f"[{_HAN}{_KANA}{_THAI}{_LAO}{_KHMER}{_MYANMAR}]")
_UNSEEN = re.compile(  # default ignorable code points that are not of the category Cf
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_CARRIERS = ("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd")  # categories of what marks stand on
_VOWELS = "\u0e33\u0eb3\uff9e\uff9f"  # am of Thai and Lao, voicing of narrow kana: letters that stand on another one


@cache
def unseen(letter: str) -> bool:
    """Whether a character is drawn as nothing: joiners, direction marks, soft hyphens, variation selectors."""
    return unicodedata.category(letter) == "Cf" or bool(_UNSEEN.match(letter))


@cache
def control(letter: str) -> bool:
    """Whether a character is a control character, or half of one (a lone surrogate)."""
    return unicodedata.category(letter) in ("Cc", "Cs")


@cache
def _extends(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "M" or letter in _VOWELS or unseen(letter)


def clusters(text: str) -> list[str]:
    """Text in pieces that are drawn as one: a character and the marks on it."""
    pieces: list[str] = []
    for letter in text:
        if pieces and _extends(letter):
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces


def unspaced(text: str) -> bool:
    """Whether text begins with a letter of a script without spaces."""
    return bool(_UNSPACED.match(text))


def set_apart(text: str) -> str:
    """Text with blanks around each letter of a script without spaces."""
    if text.isascii() or not _UNSPACED.search(text):
        return text
    return "".join(f" {piece} " if unspaced(piece) else piece for piece in _words_of(clusters(text)))


def _words_of(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces, but marks that follow no letter and no digit are pieces of their own: they end up without it."""
    for piece in pieces:
        carries = unicodedata.category(piece[0]) in _CARRIERS
        yield from (piece,) if carries else (piece[0], *clusters(piece[1:]))


def split(text: str) -> list[str]:
    """The words of a caption that `join` joined."""
    return set_apart(text).split()


def join(words: Iterable[str]) -> str:
    """Words → a caption, with blanks between them where their scripts have blanks. `split` takes it apart again."""
    text, last = "", ""
    for word in words:
        touch = unspaced(last) and unspaced(word) and not _extends(word[0])
        text += word if touch or not text else f" {word}"
        last = word
    return text

"""A vocabulary of so many words, for what does not depend on which."""

from captioning.data.text.vocabulary import SPECIAL, Vocabulary


def numbered(size: int) -> Vocabulary:
    """`size` tokens: the special ones, and words with numbers."""
    return Vocabulary((*SPECIAL, *(f"w{index}" for index in range(size - len(SPECIAL)))))

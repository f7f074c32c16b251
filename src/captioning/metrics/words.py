"""Words of captions, as scores see them."""

from collections.abc import Sequence

from captioning.data.text.tokenizer import tokenize
from captioning.system import scripts


def unknown_words(references: Sequence[str], captions: Sequence[str]) -> list[list[int]]:
    """For each caption, the positions of the words that are in no reference."""
    known = {word for reference in references for word in tokenize(reference)}
    return [[k for k, word in enumerate(scripts.split(caption)) if word not in known] for caption in captions]

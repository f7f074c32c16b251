"""Phrases that captions must have, as ids of the vocabulary."""

import difflib
from collections.abc import Iterable

from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError


def phrases(vocabulary: Vocabulary, texts: Iterable[str], option: str = "must") -> tuple[tuple[int, ...], ...]:
    """Words or phrases, as people write them → `SearchOptions.must`. option: what messages begin with.

    Raises UserError for one without a word, or with words that the vocabulary lacks, naming the closest it has.
    """
    required: dict[tuple[int, ...], None] = {}
    for text in texts:
        words = tokenize(text)
        if not words:
            raise UserError(f"{option} {text!r}: there is no word in it")
        for word in words:
            if vocabulary.special.unk in vocabulary.encode([word]):
                close = difflib.get_close_matches(word, vocabulary.whole_words(), n=3, cutoff=0.5)
                hint = f"; did you mean {' or '.join(close)}?" if close else ""
                raise UserError(f"{option} {text!r}: the model's vocabulary has no word {word!r}{hint}")
        required[tuple(vocabulary.encode(words))] = None
    return tuple(required)

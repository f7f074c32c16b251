"""Whether a vocabulary has the words of the captions it was made from; lines to print where it does not."""

from collections import Counter
from collections.abc import Container, Sequence

from captioning.data.text.vocabulary import SPECIAL, Pieces, Vocabulary
from captioning.system.errors import UserError

_UNKNOWN = 0.1  # of the words in training captions: more than this share as <unk> is reported
_SINGLE = 0.9  # of the training captions: if this share is one word each, it is reported

Captions = Sequence[Sequence[str]]


def count(captions: Captions, min_count: int) -> Vocabulary:
    """The vocabulary of tokenised captions. Raises UserError when it would have no word."""
    vocabulary = Vocabulary.count(captions, min_count)
    if len(vocabulary) == len(SPECIAL):
        raise UserError(_nothing(captions, min_count))
    return vocabulary


def pieces(captions: Captions, known: Container[str] | None, min_count: int) -> Pieces:
    """The word pieces of tokenised captions: of those that are known, or learnt from the captions where none are."""
    return Pieces.count(captions, min_count) if known is None else Pieces.of(captions, known)


def _nothing(captions: Captions, min_count: int) -> str:
    counts = _count(captions)
    most = max((counts[word] for word in counts if word not in SPECIAL), default=0)
    if not most:
        return f"the {len(captions)} training captions have no words but {', '.join(SPECIAL)}; correct the captions"
    return (
        f"vocab.min_count = {min_count}: none of the {len(counts)} different words of the {len(captions)} training "
        f"captions occurs so often; the commonest occurs {_times(most)}: lower vocab.min_count to {most} or less, "
        "and to 1 to keep every word"
    )


def unspaced(captions: Captions) -> list[str]:
    """A line if most captions are one word each: nothing separates their words."""
    single = sum(len(words) == 1 for words in captions)
    if single < _SINGLE * len(captions):
        return []
    return [
        f"{single} of the {len(captions)} training captions are one word each; words are split at spaces, "
        "so put spaces between the words of captions"
    ]


def unknown(captions: Captions, vocabulary: Vocabulary, min_count: int) -> list[str]:
    """A line if many words of the captions are not in the vocabulary."""
    counts = _count(captions)
    lacking = sum(n for word, n in counts.items() if vocabulary.encode([word]) == [vocabulary.special.unk])
    if lacking <= _UNKNOWN * counts.total():
        return []
    return [
        f"{lacking / counts.total():.0%} of the words in training captions are <unk>, for they occur fewer than "
        f"{_times(min_count)}; lower vocab.min_count to keep them"
    ]


def _count(captions: Captions) -> Counter[str]:
    return Counter(word for words in captions for word in words)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"

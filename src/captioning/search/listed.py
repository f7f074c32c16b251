"""Search over a decoder that can list what it would say: exact, with no word said step by step."""

from collections.abc import Sequence

from captioning.search.base import Hypothesis, Lister, T, finished
from captioning.settings.search import SearchOptions


def listed(decoder: Lister[T], encoded: T, options: SearchOptions) -> list[list[Hypothesis]]:
    """The likeliest captions of each of the B images that `options` allow, at most as many as the beam is wide."""
    return [
        [finished(ids, nats, options) for ids, nats in captions if allowed(ids, options)][: options.beam_size]
        for captions in decoder.listed(encoded)
    ]


def allowed(ids: Sequence[int], options: SearchOptions) -> bool:
    """Has a caption a length, and all phrases, that are asked for?"""
    whole = options.min_words <= len(ids) <= options.max_words
    return whole and _has_all(ids, options) and not _repeats(ids, options.repeat_ngram)


def _has_all(ids: Sequence[int], options: SearchOptions) -> bool:
    said = sum(any(_has(ids, phrase) for phrase in group) for group in options.some_of)
    return said >= options.least and all(_has(ids, phrase) for phrase in options.must)


def _has(ids: Sequence[int], phrase: tuple[int, ...]) -> bool:
    return phrase in _ngrams(ids, len(phrase))


def _repeats(ids: Sequence[int], size: int) -> bool:
    ngrams = _ngrams(ids, size) if size else []
    return len(set(ngrams)) < len(ngrams)


def _ngrams(ids: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[first : first + size]) for first in range(len(ids) - size + 1)]

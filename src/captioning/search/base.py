"""What all searches share: hypotheses, captions, and which words may come next.

N hypotheses, T tokens so far, V words.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from captioning.data.text.vocabulary import Special, Vocabulary
from captioning.search.arrays import Array, State, operations
from captioning.settings.search import SearchOptions

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Speaker(Protocol[T_contra]):
    """Anything that `search` can decode with: a decoder or an ensemble. T is its encoder output."""

    shared: int
    """See `Decoder.shared`."""

    vocabulary: Vocabulary

    def init(self, encoded: T_contra, /) -> State:
        """See `Decoder.init`."""

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """See `Decoder.step`."""


@runtime_checkable
class Lister(Protocol[T_contra]):
    """A decoder that has a list of captions, and need not be searched."""

    def listed(self, encoded: T_contra, /) -> list[list[tuple[list[int], float]]]:
        """See `RetrievalDecoder.listed`."""


@dataclass(frozen=True)
class Hypothesis:
    """A caption as word ids without `<bos>` and `<eos>`, the score it is ranked by, and its log probability, nats."""

    ids: tuple[int, ...]
    score: float
    log_probability: float


class Caption(NamedTuple):
    """A hypothesis in words."""

    text: str
    score: float
    log_probability: float

    def record(self) -> dict[str, str | float | None]:
        """The caption as JSON has it; −∞ is null."""
        numbers = {"score": self.score, "log_probability": self.log_probability}
        return {"caption": self.text, **{name: x if math.isfinite(x) else None for name, x in numbers.items()}}


def in_words(vocabulary: Vocabulary, hypotheses: Iterable[Hypothesis]) -> list[Caption]:
    """Each hypothesis as a caption."""
    return [
        Caption(vocabulary.decode(hypothesis.ids), hypothesis.score, hypothesis.log_probability)
        for hypothesis in hypotheses
    ]


def finished(ids: Sequence[int], log_probability: float, options: SearchOptions) -> Hypothesis:
    """A hypothesis that has ended, with the score that it is ranked by."""
    score = log_probability / float((len(ids) + 1) ** options.length_penalty)
    return Hypothesis(tuple(ids), score, log_probability)


def ranked(hypotheses: Iterable[Hypothesis], count: int) -> list[Hypothesis]:
    """The `count` best, best first, each caption once. Where there are none: an empty caption whose score is −∞."""
    best = sorted(hypotheses, key=lambda hypothesis: (hypothesis.score, hypothesis.ids), reverse=True)
    different = list({hypothesis.ids: hypothesis for hypothesis in reversed(best)}.values())[::-1]
    return different[:count] or [Hypothesis((), -math.inf, -math.inf)]


def log_probabilities(logits: Array, tokens: Array, options: SearchOptions, special: Special) -> Array:
    """log p of the next word (N, V), −∞ where it is banned. tokens (N, T) are those so far, from `<bos>`."""
    length = tokens.shape[1] - 1
    of = operations(logits)
    words = of.log_softmax(of.single(logits))
    words[:, special.unsayable] = -math.inf
    if length < options.min_words:
        words[:, special.eos] = -math.inf
    if length >= options.max_words:
        end = words[:, [special.eos]]  # a copy
        words[:] = -math.inf
        words[:, [special.eos]] = end
    elif options.repeat_ngram:
        _ban_repeats(words, tokens, options.repeat_ngram)
    return words


def _ban_repeats(words: Array, tokens: Array, size: int) -> None:
    for row, ids in enumerate(tokens[:, 1:].tolist()):
        tail = ids[len(ids) - size + 1 :] if size > 1 else []
        banned = [ids[i + size - 1] for i in range(len(ids) - size + 1) if ids[i : i + size - 1] == tail]
        words[row, banned] = -math.inf

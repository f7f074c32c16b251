"""What all searches share: their options, what they find, and which words may come next.

N hypotheses, T tokens so far, V words.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from captioning.data.text.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from captioning.decoders.base import State
from captioning.system.errors import UserError

_NEVER = (PAD, BOS, UNK)
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Speaker(Protocol[T_contra]):
    """Anything that `search` can decode with: a decoder or an ensemble. T is its encoder output."""

    shared: int
    """See `Decoder.shared`."""

    def init(self, encoded: T_contra, /) -> State:
        """See `Decoder.init`."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Decoder.step`."""


@dataclass(frozen=True)
class SearchOptions:
    """How captions are searched. Lengths are words; `<eos>` is not a word.

    beam_size: hypotheses kept a step; 1 is greedy. Sampling has no beam.
    min_words, repeat_ngram: hold for every method. An n-gram of size repeat_ngram that occurred is not said again;
        0: no ban.
    length_penalty: the likelihood of a caption is log probability / (words + 1) ** length_penalty.
    rank_by: the best of the captions found is the one of the highest likelihood, or of the largest consensus: most like
        all that were found, which is the whole beam, or all that were drawn.
    n_best: captions an image; of `sample`, how many are drawn, where equal ones count once.
    groups, strength: of `diverse`: the beam is shared by so many groups, and a word costs `strength` nats for each
        time that an earlier group says it at the same step.
    temperature, top_k, top_p, seed: of `sample`: logits are divided by the temperature; words are drawn from the top_k
        likeliest (0: all), and of these from the fewest whose probabilities sum to top_p.
    must: of `beam`: phrases, as word ids, each of which a caption says.
    """

    beam_size: int
    max_words: int
    min_words: int = 0
    length_penalty: float = 0.0
    repeat_ngram: int = 0
    method: Literal["beam", "diverse", "sample"] = "beam"
    n_best: int = 1
    groups: int = 1
    strength: float = 0.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    must: tuple[tuple[int, ...], ...] = ()
    rank_by: Literal["likelihood", "consensus"] = "likelihood"

    def __post_init__(self) -> None:
        """Raise UserError where options contradict each other."""
        if self.min_words > self.max_words:
            raise UserError(f"min_words = {self.min_words} is more than max_words = {self.max_words}")
        if self.method != "sample" and self.n_best > self.beam_size:
            raise UserError(f"n_best = {self.n_best} is more than beam_size = {self.beam_size}; raise beam_size")
        if self.rank_by == "consensus" and (self.n_best if self.method == "sample" else self.beam_size) == 1:
            more = "n_best" if self.method == "sample" else "beam_size"
            raise UserError(f"rank_by = consensus compares captions, and {more} = 1 finds one; raise {more}")
        if self.method == "diverse" and self.beam_size % self.groups:
            raise UserError(f"beam_size = {self.beam_size} is not a multiple of groups = {self.groups}")
        if self.method != "beam" and self.must:
            raise UserError(f"method = {self.method}: only beam search supports `must`; leave it out")


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
    return [Caption(vocabulary.decode(found.ids), found.score, found.log_probability) for found in hypotheses]


def finished(ids: Sequence[int], log_probability: float, options: SearchOptions) -> Hypothesis:
    """A hypothesis that has ended, with the score that it is ranked by."""
    score = log_probability / float((len(ids) + 1) ** options.length_penalty)
    return Hypothesis(tuple(ids), score, log_probability)


def ranked(hypotheses: Iterable[Hypothesis], count: int) -> list[Hypothesis]:
    """The `count` best, best first, each caption once. Where there are none: an empty caption whose score is −∞."""
    best = sorted(hypotheses, key=lambda found: (found.score, found.ids), reverse=True)
    different = list({found.ids: found for found in reversed(best)}.values())[::-1]
    return different[:count] or [Hypothesis((), -math.inf, -math.inf)]


def log_probabilities(logits: Tensor, tokens: Tensor, options: SearchOptions) -> Tensor:
    """log p of the next word (N, V), with what must not be said at −∞. tokens (N, T) are those so far, from `<bos>`."""
    length = tokens.shape[1] - 1
    words = logits.float().log_softmax(dim=-1)
    words[:, list(_NEVER)] = -torch.inf
    if length < options.min_words:
        words[:, EOS] = -torch.inf
    if length >= options.max_words:
        end = words[:, EOS].clone()
        words.fill_(-torch.inf)
        words[:, EOS] = end
    elif options.repeat_ngram:
        _ban_repeats(words, tokens, options.repeat_ngram)
    return words


def _ban_repeats(words: Tensor, tokens: Tensor, size: int) -> None:
    for row, said in enumerate(tokens[:, 1:].tolist()):
        tail = said[len(said) - size + 1 :] if size > 1 else []
        ban = [said[i + size - 1] for i in range(len(said) - size + 1) if said[i : i + size - 1] == tail]
        words[row, ban] = -torch.inf

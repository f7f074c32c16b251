"""Greedy and beam search, written once over a decoder's `step`.

B images, K beams, V words, N hypotheses (B * K).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captioning.decoders.base import Decoder, Encoded, State, select
from captioning.vocabulary import BOS, EOS, PAD, UNK

_NEVER = (PAD, BOS, UNK)


@dataclass(frozen=True)
class SearchOptions:
    """How captions are searched. Lengths are words; `<eos>` is not a word.

    beam_size: hypotheses kept a step; 1 is greedy.
    length_penalty: a finished hypothesis is ranked by log probability / (words + 1) ** length_penalty.
    repeat_ngram: an n-gram of this size that occurred is not said again; 0: no ban.
    """

    beam_size: int
    max_words: int
    min_words: int = 0
    length_penalty: float = 0.0
    repeat_ngram: int = 0


@dataclass(frozen=True)
class Hypothesis:
    """A caption as word ids without `<bos>` and `<eos>`, and the score it was ranked by."""

    ids: tuple[int, ...]
    score: float


@torch.inference_mode()
def search(decoder: Decoder, encoded: Encoded, options: SearchOptions) -> list[Hypothesis]:
    """The best caption for each of the B images.

    All images advance together; an image leaves the batch when K of its hypotheses have ended, or none that
    still grows can outrank the best of them. After `max_words` words every hypothesis ends. Where the bans
    leave no caption at all, the caption is empty and its score −∞.
    """
    beams = _Beams(decoder.init(encoded), options)
    for length in range(options.max_words + 1):
        logits, state = decoder.step(beams.last_tokens(), beams.state)
        beams.advance(logits, state, length)
        if beams.done():
            break
    return beams.best()


class _Beams:
    """The growing hypotheses of the images that are still searched, and the finished ones of all."""

    def __init__(self, state: State, options: SearchOptions) -> None:
        images, device = len(state[0]), state[0].device
        self.options = options
        self.state = state
        self.open = torch.arange(images, device=device)  # (B,) the images still searched
        self.scores = torch.zeros(images, 1, device=device)  # (B, K) log probabilities; one beam at first
        self.tokens = torch.full((images, 1, 1), BOS, device=device)  # (B, K, T)
        self.finished: list[list[Hypothesis]] = [[] for _ in range(images)]

    def last_tokens(self) -> Tensor:
        return self.tokens[:, :, -1].reshape(-1)  # (N,)

    def done(self) -> bool:
        return len(self.open) == 0

    def best(self) -> list[Hypothesis]:
        nothing = Hypothesis((), -math.inf)
        return [max(found, key=lambda h: (h.score, h.ids), default=nothing) for found in self.finished]

    def advance(self, logits: Tensor, state: State, length: int) -> None:
        """Grow every hypothesis by its best words; put those that end aside."""
        images, width = self.scores.shape
        words = self._log_probabilities(logits, length).view(images, width, -1)  # (B, K, V)
        total = self.scores.unsqueeze(2) + words
        count = min(2 * self.options.beam_size, total[0].numel())
        scores, flat = total.view(images, -1).topk(count, dim=1)  # (B, 2K): K remain even if K end
        parent, token = flat // words.shape[2], flat % words.shape[2]
        self._finish(scores, parent, token, length)
        self._grow(scores, parent, token, state)

    def _log_probabilities(self, logits: Tensor, length: int) -> Tensor:
        """log p of the next word (N, V), with what must not be said at −∞."""
        words = logits.float().log_softmax(dim=-1)
        words[:, list(_NEVER)] = -torch.inf
        if length < self.options.min_words:
            words[:, EOS] = -torch.inf
        if length >= self.options.max_words:
            end = words[:, EOS].clone()
            words.fill_(-torch.inf)
            words[:, EOS] = end
        elif self.options.repeat_ngram:
            self._ban_repeats(words)
        return words

    def _ban_repeats(self, words: Tensor) -> None:
        size = self.options.repeat_ngram
        for row, said in enumerate(self.tokens.flatten(0, 1)[:, 1:].tolist()):
            tail = said[len(said) - size + 1 :] if size > 1 else []
            ban = [said[i + size - 1] for i in range(len(said) - size + 1) if said[i : i + size - 1] == tail]
            words[row, ban] = -torch.inf

    def _rank(self, score: float, length: int) -> float:
        return score / float((length + 1) ** self.options.length_penalty)

    def _finish(self, scores: Tensor, parent: Tensor, token: Tensor, length: int) -> None:
        """Put aside the hypotheses that end here, if they are among the K best of their image."""
        kept = self.options.beam_size
        ends = (token[:, :kept] == EOS) & torch.isfinite(scores[:, :kept])
        for image, beam in ends.nonzero().tolist():
            ids = tuple(self.tokens[image, parent[image, beam], 1:].tolist())
            rank = self._rank(float(scores[image, beam]), length)
            self.finished[int(self.open[image])].append(Hypothesis(ids, rank))

    def _grow(self, scores: Tensor, parent: Tensor, token: Tensor, state: State) -> None:
        """Keep the K best hypotheses that go on, in the images that can still improve."""
        going = scores.masked_fill(token == EOS, -torch.inf)
        scores, order = going.topk(min(self.options.beam_size, going.shape[1]), dim=1)  # (B, K)
        parent, token = parent.gather(1, order), token.gather(1, order)
        alive = self._can_improve(scores)
        rows = torch.arange(len(self.open), device=token.device).unsqueeze(1) * self.scores.shape[1] + parent
        self.state = select(state, rows[alive].flatten())
        history = self.tokens[alive].gather(1, parent[alive].unsqueeze(2).expand(-1, -1, self.tokens.shape[2]))
        self.tokens = torch.cat([history, token[alive].unsqueeze(2)], dim=2)
        self.scores = scores[alive]
        self.open = self.open[alive]

    def _can_improve(self, scores: Tensor) -> Tensor:
        """(B,) bool: fewer than K have ended, and one that grows could still outrank the best of them."""
        ceiling = scores[:, 0] / (self.options.max_words + 1) ** self.options.length_penalty
        pairs = zip(self.open.tolist(), ceiling.tolist(), strict=True)
        alive = [len(self.finished[image]) < self.options.beam_size and self._beats(image, top) for image, top in pairs]
        return torch.tensor(alive, dtype=torch.bool, device=scores.device)

    def _beats(self, image: int, ceiling: float) -> bool:
        return ceiling > max((hypothesis.score for hypothesis in self.finished[image]), default=-math.inf)

"""Beam search, and greedy search, which is a beam of one.

B images, K beams, S banks of beams (1, but where captions are constrained), V words, W hypotheses an image (S * K),
N hypotheses (B * W).
"""

import math
from typing import Any

import torch
from torch import Tensor

from captioning.data.text.vocabulary import Special
from captioning.decoders.base import State
from captioning.search.base import Hypothesis, Speaker, T, finished, log_probabilities
from captioning.settings.search import SearchOptions


@torch.inference_mode()
def beam_search(decoder: Speaker[T], encoded: T, options: SearchOptions) -> list[list[Hypothesis]]:
    """The captions that ended in the beam of each of the B images, in no order.

    All images advance together; an image leaves the batch when K of its hypotheses have ended, or none that
    still grows can outrank the last of the n best. After `max_words` words every hypothesis ends.
    """
    beams = Beams(decoder, decoder.init(encoded), options)
    run(decoder, beams)
    return beams.ended


def run(decoder: Speaker[T], beams: "Beams") -> None:
    """Advance until no image is searched any more."""
    while not beams.done():
        beams.advance(*decoder.step(beams.last_tokens(), beams.state))


class Beams:
    """The growing hypotheses of the images that are still searched, and the ended ones of all."""

    def __init__(self, decoder: Speaker[Any], state: State, options: SearchOptions) -> None:
        images, device = len(state[0]), state[0].device
        self.options = options
        self.state, self.shared = state, decoder.shared
        self.special: Special = decoder.vocabulary.special
        self.open = torch.arange(images, device=device)  # (B,) the images still searched
        self.scores = torch.zeros(images, 1, device=device)  # (B, W) log probabilities; one beam at first
        self.tokens = torch.full((images, 1, 1), self.special.bos, device=device)  # (B, W, T)
        self.ended: list[list[Hypothesis]] = [[] for _ in range(images)]

    def last_tokens(self) -> Tensor:
        """The last word of each hypothesis, (N,)."""
        return self.tokens[:, :, -1].reshape(-1)

    def done(self) -> bool:
        """Is no image searched any more?"""
        return len(self.open) == 0

    def advance(self, logits: Tensor, state: State) -> None:
        """Grow every hypothesis by its best words; put those that end aside."""
        images, width = self.scores.shape
        words = log_probabilities(logits, self.tokens.flatten(0, 1), self.options, self.special)
        words = words.view(images, width, -1)  # (B, W, V)
        scores, flat = self._choose(self.scores.unsqueeze(2) + words)  # (B, S, 2K): K remain even if K end
        parent, token = flat // words.shape[2], flat % words.shape[2]
        self._finish(scores[:, -1], parent[:, -1], token[:, -1])
        self._grow(scores, parent, token, state)

    def _choose(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """total (B, W, V) → the 2K best for each bank, best first: their scores and indices in W * V, (B, S, 2K)."""
        count = min(2 * self.options.beam_size, total[0].numel())
        scores, flat = total.flatten(1).topk(count, dim=1)
        return scores.unsqueeze(1), flat.unsqueeze(1)

    def _finish(self, scores: Tensor, parent: Tensor, token: Tensor) -> None:
        """Put aside the hypotheses that end here, if they are among the K best of their image."""
        width = self.options.beam_size
        ends = (token[:, :width] == self.special.eos) & torch.isfinite(scores[:, :width])
        for image, beam in ends.nonzero().tolist():
            ids = self.tokens[image, parent[image, beam], 1:].tolist()
            self.ended[int(self.open[image])].append(finished(ids, float(scores[image, beam]), self.options))

    def _grow(self, scores: Tensor, parent: Tensor, token: Tensor, state: State) -> None:
        """Keep the K best hypotheses of each bank that go on, in the images that can still improve."""
        ends = token == self.special.eos
        order = ends.byte().argsort(dim=2, stable=True)[:, :, : self.options.beam_size]  # (B, S, K)
        scores = scores.masked_fill(ends, -torch.inf).gather(2, order).flatten(1)  # (B, W)
        parent, token = parent.gather(2, order).flatten(1), token.gather(2, order).flatten(1)
        self._take(self._can_improve(scores), scores, parent, token, state)

    def _take(self, alive: Tensor, scores: Tensor, parent: Tensor, token: Tensor, state: State) -> None:
        """Go on with the images that are `alive` (B,), each hypothesis (B, W) with its parent's state and words."""
        rows = torch.arange(len(self.open), device=token.device).unsqueeze(1) * self.scores.shape[1] + parent
        own = len(state) - self.shared
        selected = [tensor.index_select(0, rows[alive].flatten()) for tensor in state[:own]]
        self.state = (*selected, *(state[own:] if alive.all() else (tensor[alive] for tensor in state[own:])))
        history = self.tokens[alive].gather(1, parent[alive].unsqueeze(2).expand(-1, -1, self.tokens.shape[2]))
        self.tokens = torch.cat([history, token[alive].unsqueeze(2)], dim=2)
        self.scores = scores[alive]
        self.open = self.open[alive]

    def _can_improve(self, scores: Tensor) -> Tensor:
        """(B,) bool: fewer than K have ended, and one that grows could still be among the n best."""
        ceiling = scores.amax(1) / (self.options.max_words + 1) ** self.options.length_penalty
        pairs = zip(self.open.tolist(), ceiling.tolist(), strict=True)
        alive = [len(self.ended[image]) < self.options.beam_size and self._beats(image, top) for image, top in pairs]
        return torch.tensor(alive, dtype=torch.bool, device=scores.device)

    def _beats(self, image: int, ceiling: float) -> bool:
        best = sorted((hypothesis.score for hypothesis in self.ended[image]), reverse=True)[: self.options.n_best]
        return ceiling > (best[-1] if len(best) == self.options.n_best else -math.inf)

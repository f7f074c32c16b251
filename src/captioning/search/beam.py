"""Beam search, and greedy search, which is a beam of one.

B images, K beams, S banks of beams (1, but where captions are constrained), V words, W hypotheses an image (S * K),
N hypotheses (B * W).
"""

import math
from typing import Any

import numpy as np

from captioning.data.text.vocabulary import Special
from captioning.search.arrays import Array, State, operations, without_gradients
from captioning.search.base import Hypothesis, Speaker, T, finished, log_probabilities
from captioning.settings.search import SearchOptions


@without_gradients
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
        images, like = len(state[0]), state[0]
        self.of = operations(like)
        self.options = options
        self.state, self.shared = state, decoder.shared
        self.special: Special = decoder.vocabulary.special
        self.open = self.of.arange(images, like)  # (B,) the images still searched
        self.scores = self.of.array(np.zeros((images, 1), np.float32), like)  # (B, W) log probabilities; one at first
        self.tokens = self.of.array(np.full((images, 1, 1), self.special.bos), like)  # (B, W, T)
        self.ended: list[list[Hypothesis]] = [[] for _ in range(images)]

    def last_tokens(self) -> Array:
        """The last word of each hypothesis, (N,)."""
        return self.tokens[:, :, -1].reshape(-1)

    def done(self) -> bool:
        """Is no image searched any more?"""
        return len(self.open) == 0

    def advance(self, logits: Array, state: State) -> None:
        """Grow every hypothesis by its best words; put those that end aside."""
        images, width = self.scores.shape
        words = log_probabilities(logits, self.tokens.reshape(images * width, -1), self.options, self.special)
        words = words.reshape(images, width, -1)  # (B, W, V)
        scores, flat = self._choose(self.scores[:, :, None] + words)  # (B, S, 2K): K remain even if K end
        parent, token = flat // words.shape[2], flat % words.shape[2]
        self._finish(scores[:, -1], parent[:, -1], token[:, -1])
        self._grow(scores, parent, token, state)

    def _choose(self, total: Array) -> tuple[Array, Array]:
        """total (B, W, V) → the 2K best for each bank, best first: their scores and indices in W * V, (B, S, 2K)."""
        flat = total.reshape(len(total), -1)  # (B, W * V)
        scores, places = self.of.largest(flat, min(2 * self.options.beam_size, flat.shape[1]))
        return scores[:, None], places[:, None]

    def _finish(self, scores: Array, parent: Array, token: Array) -> None:
        """Put aside the hypotheses that end here, if they are among the K best of their image."""
        width = self.options.beam_size
        ends = (token[:, :width] == self.special.eos) & self.of.finite(scores[:, :width])
        for image, beam in self.of.places(ends):
            ids = self.tokens[image, parent[image, beam], 1:].tolist()
            self.ended[int(self.open[image])].append(finished(ids, float(scores[image, beam]), self.options))

    def _grow(self, scores: Array, parent: Array, token: Array, state: State) -> None:
        """Keep the K best hypotheses of each bank that go on, in the images that can still improve."""
        ends = token == self.special.eos
        order = self.of.order(ends)[:, :, : self.options.beam_size]  # (B, S, K)
        growing = self.of.where(ends, -math.inf, scores), parent, token
        scores, parent, token = (self.of.along(one, order, 2).reshape(len(order), -1) for one in growing)  # (B, W)
        self._take(self._can_improve(scores), scores, parent, token, state)

    def _take(self, alive: Array, scores: Array, parent: Array, token: Array, state: State) -> None:
        """Go on with the images that are `alive` (B,), each hypothesis (B, W) with its parent's state and words."""
        rows = self.of.arange(len(self.open), token)[:, None] * self.scores.shape[1] + parent
        own = len(state) - self.shared
        selected = [self.of.rows(tensor, rows[alive].reshape(-1)) for tensor in state[:own]]
        self.state = (*selected, *(state[own:] if alive.all() else (tensor[alive] for tensor in state[own:])))
        history = self.of.along(self.tokens[alive], parent[alive][:, :, None], 1)
        self.tokens = self.of.join([history, token[alive][:, :, None]], 2)
        self.scores = scores[alive]
        self.open = self.open[alive]

    def _can_improve(self, scores: Array) -> Array:
        """(B,) bool: fewer than K have ended, and one that grows could still be among the n best."""
        ceiling = self.of.maximum(scores)[:, 0] / (self.options.max_words + 1) ** self.options.length_penalty
        pairs = zip(self.open.tolist(), ceiling.tolist(), strict=True)
        alive = [len(self.ended[image]) < self.options.beam_size and self._beats(image, top) for image, top in pairs]
        return self.of.array(np.array(alive, bool), scores)

    def _beats(self, image: int, ceiling: float) -> bool:
        best = sorted((hypothesis.score for hypothesis in self.ended[image]), reverse=True)[: self.options.n_best]
        return ceiling > (best[-1] if len(best) == self.options.n_best else -math.inf)

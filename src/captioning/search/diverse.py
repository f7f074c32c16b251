"""Diverse beam search (Vijayakumar et al. 2018, algorithm 1) with Hamming diversity.

The beam is shared by groups that advance one after the other. A word costs a group λ nats more for each hypothesis of
the groups before it that has this word at this step (their section 5.1); what it has cost so far counts when the next
words are chosen, as in the authors' code. The captions of all groups are then ranked by their log probability alone.
`<eos>` is no word and costs nothing more. One group is beam search.

B images, K beams of a group, V words.
"""

from dataclasses import replace
from typing import Any

from captioning.search.arrays import Array, State, operations, without_gradients
from captioning.search.base import Hypothesis, Speaker, T
from captioning.search.beam import Beams
from captioning.settings.search import SearchOptions


@without_gradients
def diverse_search(decoder: Speaker[T], encoded: T, options: SearchOptions) -> list[list[Hypothesis]]:
    """The captions that ended in any group, for each of the B images, in no order; groups may have the same ones."""
    share = options.beam_size // options.groups
    own = replace(options, beam_size=share, groups=1, n_best=min(options.n_best, share))
    state = decoder.init(encoded)
    groups = [_Group(decoder, state, own) for _ in range(options.groups)]
    while not all(group.done() for group in groups):
        word_counts: Array | None = None  # (all images, V) how often each word was selected at this step
        for group in groups:
            if not group.done():
                logits, after = decoder.step(group.last_tokens(), group.state)
                if word_counts is None:
                    word_counts = operations(logits).zeros((len(state[0]), logits.shape[1]), logits)
                group.word_counts = word_counts
                group.advance(logits, after)
    return [[hypothesis for group in groups for hypothesis in group.ended[image]] for image in range(len(state[0]))]


class _Group(Beams):
    """A group. `word_counts` decides how much more a word costs; the group adds its own words there."""

    word_counts: Array

    def __init__(self, decoder: Speaker[Any], state: State, options: SearchOptions) -> None:
        super().__init__(decoder, state, options)
        self.paid = self.of.zeros(self.scores.shape, self.scores)  # (B, K) what the words have cost more

    def _choose(self, total: Array) -> tuple[Array, Array]:
        cost = self.options.strength * self.word_counts[self.open]  # (B, V)
        _, flat = super()._choose(total - self.paid[:, :, None] - cost[:, None])
        return self.of.along(total.reshape(len(total), 1, -1), flat, 2), flat

    def _take(self, alive: Array, scores: Array, parent: Array, token: Array, state: State) -> None:
        cost = self.options.strength * self.word_counts[self.open]
        self.paid = (self.of.along(self.paid, parent, 1) + self.of.along(cost, token, 1))[alive]
        super()._take(alive, scores, parent, token, state)
        words = self.tokens[:, :, -1]  # (B, K)
        counted = self.of.finite(self.scores) & (words != self.special.eos)
        one = self.of.zeros(words.shape, self.word_counts) + 1
        self.of.add_at(self.word_counts, self.open[:, None], words, one * counted)

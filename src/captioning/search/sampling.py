"""Captions whose words are drawn: temperature, the k likeliest words (Fan et al. 2018), nucleus (Holtzman et al. 2020).

Every caption has random numbers of its own, made from the seed, the image's key and the caption's number, so that
it is the same in any batch.

B images, N captions that are drawn (B * n_best), V words.
"""

from collections.abc import Sequence

import numpy as np

from captioning.search.arrays import Array, operations, without_gradients
from captioning.search.base import Hypothesis, Speaker, T, finished, log_probabilities
from captioning.settings.search import SearchOptions


@without_gradients
def sample(
    decoder: Speaker[T], encoded: T, options: SearchOptions, keys: Sequence[int] | None
) -> list[list[Hypothesis]]:
    """`n_best` captions for each of the B images, in no order, some maybe equal; see `search.n_best` for keys.

    What is banned is never drawn; where everything is, the caption is left out. The log probability is that of the
    decoder, whatever the temperature.
    """
    state, special = decoder.init(encoded), decoder.vocabulary.special
    images, like = len(state[0]), state[0]
    of = operations(like)
    owner = of.array(np.arange(images).repeat(options.n_best), like)  # (N,)
    draws = of.array(uniforms(options, keys if keys is not None else range(images)), like)  # (N, T)
    tokens = of.array(np.full((len(owner), 1), special.bos), like)  # (N, T)
    scores = of.array(np.zeros(len(owner), np.float32), like)
    state = tuple(of.rows(tensor, owner) for tensor in state)
    hypotheses: list[list[Hypothesis]] = [[] for _ in range(images)]
    while len(tokens):
        logits, state = decoder.step(tokens[:, -1], state)
        words = log_probabilities(logits, tokens, options, special)
        token = draw(words, draws[:, tokens.shape[1] - 1], options)
        scores = scores + of.along(words, token[:, None], 1)[:, 0]
        possible = of.finite(scores)  # not so where every word is banned, whatever was drawn there
        for [row] in of.places((token == special.eos) & possible):
            hypotheses[int(owner[row])].append(finished(tokens[row, 1:].tolist(), float(scores[row]), options))
        on = (token != special.eos) & possible
        tokens = of.join([tokens[on], token[on][:, None]], 1)
        state, owner, scores, draws = tuple(tensor[on] for tensor in state), owner[on], scores[on], draws[on]
    return hypotheses


def uniforms(options: SearchOptions, keys: Sequence[int]) -> np.ndarray:
    """A number from 0 to 1 for each word of each caption, of the seed and the image's key: (N, max_words + 1)."""
    shape = (options.n_best, options.max_words + 1)
    return np.concatenate([np.random.default_rng([options.seed, key]).random(shape) for key in keys])


def distribution(words: Array, options: SearchOptions) -> tuple[Array, Array]:
    """log p (N, V) → the probabilities that words are drawn with, largest first, and the words they are of: (N, V).

    A word that is out has probability 0. The nucleus is the fewest words that have at least top_p between them.
    """
    of = operations(words)
    likeliest = of.double(words) - of.maximum(words)  # so that no temperature is too small
    p, order = of.descending(of.softmax(likeliest / options.temperature))
    if options.top_k:
        p[:, options.top_k :] = 0
        p = p / p.sum(1)[:, None]
    if options.top_p < 1:
        p = of.where(p.cumsum(1) - p >= options.top_p, 0.0, p)
    return p / p.sum(1)[:, None], order


def draw(words: Array, uniform: Array, options: SearchOptions) -> Array:
    """log p (N, V) and a number from 0 to 1 each (N,) → a word each (N,), drawn by inverting the distribution."""
    of = operations(words)
    p, order = distribution(words, options)
    reached = p.cumsum(1)
    index = (reached <= (uniform * reached[:, -1])[:, None]).sum(1)  # the first that is beyond has p > 0
    last = (p != 0).sum(1) - 1
    inside = of.where(index < last, index, last)
    return of.along(order, of.where(inside < 0, 0, inside)[:, None], 1)[:, 0]

"""Captions whose words are drawn: temperature, the k likeliest words (Fan et al. 2018), nucleus (Holtzman et al. 2020).

Every caption has random numbers of its own, made from the seed, the image's key and the caption's number, so that
it is the same in any batch.

B images, N captions that are drawn (B * n_best), V words.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captioning.decoders.base import select
from captioning.search.base import Hypothesis, Speaker, T, finished, log_probabilities
from captioning.settings.search import SearchOptions


@torch.inference_mode()
def sample(
    decoder: Speaker[T], encoded: T, options: SearchOptions, keys: Sequence[int] | None
) -> list[list[Hypothesis]]:
    """`n_best` captions for each of the B images, in no order, some maybe equal; see `search.n_best` for keys.

    What is banned is never drawn; where everything is, the caption is left out. The log probability is that of the
    decoder, whatever the temperature.
    """
    state, special = decoder.init(encoded), decoder.vocabulary.special
    images, device = len(state[0]), state[0].device
    owner = torch.arange(images, device=device).repeat_interleave(options.n_best)  # (N,)
    draws = uniforms(options, keys if keys is not None else range(images)).to(device)  # (N, T)
    state, tokens = select(state, owner), torch.full((len(owner), 1), special.bos, device=device)
    scores = torch.zeros(len(owner), device=device)
    hypotheses: list[list[Hypothesis]] = [[] for _ in range(images)]
    while len(tokens):
        logits, state = decoder.step(tokens[:, -1], state)
        words = log_probabilities(logits, tokens, options, special)
        token = draw(words, draws[:, tokens.shape[1] - 1], options)
        scores = scores + words.gather(1, token.unsqueeze(1)).squeeze(1)
        possible = scores.isfinite()  # not so where every word is banned, whatever was drawn there
        for row in ((token == special.eos) & possible).nonzero().flatten().tolist():
            hypotheses[int(owner[row])].append(finished(tokens[row, 1:].tolist(), float(scores[row]), options))
        on = ((token != special.eos) & possible).nonzero().flatten()
        tokens = torch.cat([tokens[on], token[on].unsqueeze(1)], dim=1)
        state, owner, scores, draws = select(state, on), owner[on], scores[on], draws[on]
    return hypotheses


def uniforms(options: SearchOptions, keys: Sequence[int]) -> Tensor:
    """A number from 0 to 1 for each word of each caption, of the seed and the image's key: (N, max_words + 1)."""
    shape = (options.n_best, options.max_words + 1)
    return torch.from_numpy(np.concatenate([np.random.default_rng([options.seed, key]).random(shape) for key in keys]))


def distribution(words: Tensor, options: SearchOptions) -> tuple[Tensor, Tensor]:
    """log p (N, V) → the probabilities that words are drawn with, largest first, and the words they are of: (N, V).

    A word that is out has probability 0. The nucleus is the fewest words that have at least top_p between them.
    """
    likeliest = words.double() - words.amax(1, keepdim=True)  # so that no temperature is too small
    p, order = (likeliest / options.temperature).softmax(1).sort(dim=1, descending=True, stable=True)
    if options.top_k:
        p[:, options.top_k :] = 0
        p = p / p.sum(1, keepdim=True)
    if options.top_p < 1:
        p = p.masked_fill(p.cumsum(1) - p >= options.top_p, 0)
    return p / p.sum(1, keepdim=True), order


def draw(words: Tensor, uniform: Tensor, options: SearchOptions) -> Tensor:
    """log p (N, V) and a number from 0 to 1 each (N,) → a word each (N,), drawn by inverting the distribution."""
    p, order = distribution(words, options)
    reached = p.cumsum(1)
    index = (reached <= (uniform * reached[:, -1]).unsqueeze(1)).sum(1)  # the first that is beyond has p > 0
    last = p.count_nonzero(1) - 1
    return order.gather(1, torch.minimum(index, last).clamp_min(0).unsqueeze(1)).squeeze(1)

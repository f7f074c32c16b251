"""Captions that a retrieval model lends to others: they join the candidates, and vote on which one is said.

Devlin et al. 2015 ("Exploring nearest neighbor approaches for image captioning") say the candidate on which captions of
similar images agree most. Here the candidates of a search are judged by them too, beside the decoder's own vote and
likelihood. So the decoder says what is probable, and the neighbours say what people say of such images.

B images, R candidates of an image, N hypotheses (B * R), T words.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from captioning.data.text.vocabulary import Vocabulary
from captioning.search.arrays import operations, without_gradients
from captioning.search.base import Hypothesis, Speaker, T, finished
from captioning.search.consensus import Ids, likeness, weights
from captioning.search.listed import allowed
from captioning.settings.search import SearchOptions

AGREEMENT, LIKELIHOOD = 0.98, 0.06  # shares of the neighbours' vote, and nats a word: selected on validation
_DIGITS = 9  # of a score: sums of two machines differ later, and must not decide between equals


class Lent(NamedTuple):
    """Captions of images like one: word ids, what each counts, of 1; and those that may be said, the best first."""

    captions: list[Ids]
    weights: list[float]
    candidates: list[Ids]


def joined(parts: Sequence[Lent]) -> Lent:
    """What several lend for one image: each counts as much as the others."""
    return Lent(
        [ids for part in parts for ids in part.captions],
        [weight / len(parts) for part in parts for weight in part.weights],
        list(dict.fromkeys(ids for part in parts for ids in part.candidates)),
    )


def by_agreement(
    decoder: Speaker[T],
    encoded: T,
    found: Sequence[Sequence[Hypothesis]],
    lent: Sequence[Lent],
    power: float,
    options: SearchOptions,
) -> list[list[Hypothesis]]:
    """The hypotheses of B images and what was lent for each, with what decides between them as the score.

    That is the likeness to what was lent, `AGREEMENT` of it, and to the hypotheses found, each of which counts its
    probability ** power; and `LIKELIHOOD` times the decoder's mean log probability of a word.
    """
    candidates = [[ids for ids in one.candidates if allowed(ids, options)] for one in lent]
    nats = forced(decoder, encoded, candidates)
    return [
        _judged(
            searched,
            [finished(*pair, options) for pair in zip(own, scores, strict=True)],
            one,
            power,
            decoder.vocabulary,
        )
        for searched, own, scores, one in zip(found, candidates, nats, lent, strict=True)
    ]


def _judged(
    searched: Sequence[Hypothesis], borrowed: Sequence[Hypothesis], lent: Lent, power: float, vocabulary: Vocabulary
) -> list[Hypothesis]:
    """All candidates of one image, each once, with their scores."""
    said = {one.ids: one for one in (*borrowed, *searched)}
    voters = list(dict.fromkeys([*said, *lent.captions]))
    number, votes = {ids: place for place, ids in enumerate(voters)}, np.zeros(len(voters))
    own = weights(searched, power) if searched else np.zeros(0)
    np.add.at(votes, [number[one.ids] for one in searched], (1 - AGREEMENT) * own)
    np.add.at(votes, [number[ids] for ids in lent.captions], AGREEMENT * np.array(lent.weights))
    agreed = likeness(voters, vocabulary) @ votes
    return [
        replace(
            one, score=round(float(agreed[number[ids]]) + LIKELIHOOD * one.log_probability / (len(ids) + 1), _DIGITS)
        )
        for ids, one in said.items()
    ]


@without_gradients
def forced(decoder: Speaker[T], encoded: T, captions: Sequence[Sequence[Ids]]) -> list[list[float]]:
    """The decoder's log probability of each caption of each of the B images, `<eos>` included, in nats."""
    each = max(map(len, captions), default=0)
    if not each:
        return [[] for _ in captions]
    special, state = decoder.vocabulary.special, decoder.init(encoded)
    of, like, own = operations(state[0]), state[0], len(state) - decoder.shared
    owner = of.array(np.repeat(np.arange(len(captions)), each), like)
    state = (*(of.rows(tensor, owner) for tensor in state[:own]), *state[own:])
    padded = [[*listed, *[()] * (each - len(listed))] for listed in captions]
    longest = max(len(ids) for listed in padded for ids in listed) + 1
    words = np.full((len(captions) * each, longest + 1), special.pad)
    for row, ids in enumerate(ids for listed in padded for ids in listed):
        words[row, : len(ids) + 2] = [special.bos, *ids, special.eos]
    total = np.zeros(len(words))
    for place in range(longest):
        logits, state = decoder.step(of.array(words[:, place], like), state)
        target = of.array(words[:, place + 1], like)
        nats = of.along(of.log_softmax(of.single(logits)), target[:, None], 1)[:, 0]
        total += np.where(words[:, place + 1] == special.pad, 0.0, np.array(nats.tolist()))
    parted = total.reshape(len(captions), each).tolist()
    return [row[: len(listed)] for row, listed in zip(parted, captions, strict=True)]

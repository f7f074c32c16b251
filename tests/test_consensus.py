"""Consensus: likeness as it is defined, and the caption in the middle of what was found."""

import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.vocabulary import numbered
from captioning.search import Hypothesis, SearchOptions, n_best
from captioning.search.beam import beam_search
from captioning.search.consensus import DRAWN, SEARCHED, by_consensus, likeness
from captioning.search.diverse import diverse_search
from captioning.search.sampling import sample
from captioning.vision.encoders.encoded import Encoded
from tests.toys import Table, images

WORDS = numbered(1000)
CAPTIONS = st.lists(st.lists(st.integers(4, 7), max_size=7).map(tuple), min_size=1, max_size=6)


def cosine(ours: tuple[int, ...], theirs: tuple[int, ...], size: int) -> float:
    """Of n-grams of one size, weighed by their rarest word, one by one."""
    one, other = (
        {
            ngram: count * math.log(1 + max(ngram) - 3)
            for ngram, count in Counter(ids[i : i + size] for i in range(len(ids) - size + 1)).items()
        }
        for ids in (ours, theirs)
    )
    norms = math.hypot(*one.values()) * math.hypot(*other.values())
    return sum(weight * other.get(ngram, 0) for ngram, weight in one.items()) / norms if norms else 0.0


@given(CAPTIONS)
def test_likeness_is_the_mean_cosine_of_n_grams_and_a_gaussian_in_length(captions: list[tuple[int, ...]]) -> None:
    expected = [
        [
            sum(cosine(one, other, size) for size in (1, 2, 3, 4)) / 4 * math.exp(-((len(one) - len(other)) ** 2) / 72)
            for other in captions
        ]
        for one in captions
    ]
    assert likeness(captions, WORDS) == pytest.approx(np.array(expected))


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    """ "a dog", "a cat", "the cat", where "cat" is rare: the last two are more alike than the first two."""
    between = likeness([(4, 90), (4, 900), (5, 900)], WORDS)
    assert between[1, 2] > between[0, 1] > 0


def test_the_caption_in_the_middle_is_the_best() -> None:
    """Of "a b c d", "a b c d e", "a b c d e f" and a likelier one that is like none of them."""
    said = [(9, 9, 9, 9), (4, 5, 6, 7), (4, 5, 6, 7, 8), (4, 5, 6, 7, 8, 9)]
    found = by_consensus([Hypothesis(ids, -1.0, -float(rank)) for rank, ids in enumerate(said)], 0.0, WORDS)
    assert [hypothesis.ids for hypothesis in found] == said
    assert [hypothesis.log_probability for hypothesis in found] == [0, -1, -2, -3]
    best = max(found, key=lambda hypothesis: hypothesis.score)
    assert best.ids == (4, 5, 6, 7, 8)
    assert min(found, key=lambda hypothesis: hypothesis.score).ids == (9, 9, 9, 9)


@given(CAPTIONS, st.data(), st.sampled_from([0.0, 0.4, 1.0]))
def test_each_counts_a_power_of_its_probability(
    captions: list[tuple[int, ...]], data: st.DataObject, power: float
) -> None:
    nats = data.draw(st.lists(st.floats(-40, 0), min_size=len(captions), max_size=len(captions)))
    counts = [math.exp(one) ** power for one in nats]
    alike = likeness(captions, WORDS)
    expected = [
        math.fsum(alike[i, j] * counts[j] for j in range(len(captions))) / sum(counts) for i in range(len(alike))
    ]
    found = by_consensus([Hypothesis(ids, 0.0, one) for ids, one in zip(captions, nats, strict=True)], power, WORDS)
    assert [hypothesis.score for hypothesis in found] == pytest.approx(expected, abs=1e-9)


def test_a_likely_caption_counts_more_than_unlikely_ones() -> None:
    """Two that are likely agree with each other, two that are unlikely agree more."""
    said = [((7, 8), -9.0), ((7, 9), -9.0), ((4, 5), -2.0), ((4, 6), -2.0)]
    alike = [found.score for found in by_consensus([Hypothesis(ids, 0.0, nats) for ids, nats in said], 0.0, WORDS)]
    assert max(alike[2:]) < min(alike[:2])
    scores = [
        found.score for found in by_consensus([Hypothesis(ids, 0.0, nats) for ids, nats in said], SEARCHED, WORDS)
    ]
    assert min(scores[2:]) > max(scores[:2])


def by_consensus_alone(decoder: Table, encoded: Encoded, options: SearchOptions) -> list[dict[tuple[int, ...], float]]:
    """The score of all that a method finds."""
    methods = {"beam": beam_search, "diverse": diverse_search, "sample": partial(sample, keys=None)}
    return [
        {
            found.ids: found.score
            for found in by_consensus(hypotheses, DRAWN if options.method == "sample" else SEARCHED, WORDS)
        }
        for hypotheses in methods[options.method](decoder, encoded, options)
    ]


@pytest.mark.parametrize("method", ["beam", "diverse", "sample"])
def test_every_method_ranks_what_it_found(method: str) -> None:
    """All that ended in the beam is compared, the likeliest among it; a shorter list begins as the longer one does."""
    shared = {"beam_size": 6, "max_words": 5, "method": method, "groups": 2, "strength": 0.5, "seed": 3}
    decoder, encoded = Table(5), images(1, 2, 3)
    plain = n_best(decoder, encoded, SearchOptions(**shared, n_best=6))
    everything = by_consensus_alone(decoder, encoded, SearchOptions(**shared, n_best=6))
    ranked = n_best(decoder, encoded, SearchOptions(**shared, n_best=6, rank_by="consensus"))
    for likely, ended, agreed in zip(plain, everything, ranked, strict=True):
        assert {found.ids for found in likely} <= ended.keys()
        assert [found.score for found in agreed] == sorted(ended.values(), reverse=True)[:6]
        assert all(ended[found.ids] == found.score for found in agreed)
        scores = [found.score for found in agreed]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
    if method != "sample":  # where n_best is how many are drawn
        short = n_best(decoder, encoded, SearchOptions(**shared, n_best=2, rank_by="consensus"))
        assert short == [found[:2] for found in ranked]


def test_what_is_drawn_twice_counts_twice() -> None:
    ids = [(4, 5), (4, 6), (4, 6)]
    scores = [found.score for found in by_consensus([Hypothesis(one, 0.0, 0.0) for one in ids], DRAWN, WORDS)]
    assert scores[1] == scores[2] > scores[0]
    alone = [found.score for found in by_consensus([Hypothesis(one, 0.0, 0.0) for one in ids[:2]], DRAWN, WORDS)]
    assert alone[0] == alone[1]


def test_where_nothing_was_found_the_caption_is_empty() -> None:
    """Four words without a repetition, where there are three."""
    options = SearchOptions(beam_size=2, max_words=4, min_words=4, repeat_ngram=1, rank_by="consensus")
    [[best]] = n_best(Table(1), images(1), options)
    assert (best.ids, best.score) == ((), -np.inf)

"""Captions that are drawn: from the right words, as often as the probabilities say, and the same ones every time."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioning.search import SearchOptions, n_best, search
from captioning.search.sampling import distribution, draw, sample
from tests.properties import examples
from tests.special import EOS
from tests.toys import WORDS, Table, exhaustive, images

weights = st.lists(st.floats(0.01, 10), min_size=1, max_size=12)


def options(**changes: float) -> SearchOptions:
    return SearchOptions(1, 3, method="sample", **changes)  # type: ignore[arg-type]


def kept(words: torch.Tensor, **changes: float) -> dict[int, float]:
    p, order = distribution(words.unsqueeze(0), options(**changes))
    return {word: value for word, value in zip(order[0].tolist(), p[0].tolist(), strict=True) if value > 0}


@examples(200)
@given(weights, st.integers(0, 14), st.floats(0.05, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_top_k_and_top_p_keep_exactly_the_right_words(
    masses: list[float], top_k: int, top_p: float, temperature: float
) -> None:
    """By hand: the k likeliest; of these the fewest that reach p; each with its share. What is banned is out."""
    words = torch.tensor([*masses, 0.0]).log()
    by_mass = sorted(range(len(masses)), key=lambda word: (-words[word].item(), word))[: top_k or None]
    shares = [math.exp(words[word].item() / temperature) for word in by_mass]
    total, reached, nucleus = sum(shares), 0.0, []
    for word, share in zip(by_mass, shares, strict=True):
        if top_p < 1 and reached >= top_p - 1e-12:
            break
        nucleus.append(word)
        reached += share / total
    found = kept(words, top_k=top_k, top_p=top_p, temperature=temperature)
    if abs(reached - top_p) > 1e-9 and all(abs(a - b) > 1e-9 for a, b in pairwise(shares)):
        assert list(found) == nucleus
    chosen = sum(shares[: len(found)])
    for word, share in zip(found, shares, strict=False):
        assert found[word] == pytest.approx(share / chosen)
    assert len(masses) not in found


def test_a_nucleus_on_the_edge_holds_no_more_than_it_must() -> None:
    words = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    assert list(kept(words, top_p=0.75)) == [0, 1]
    assert list(kept(words, top_p=0.76)) == [0, 1, 2]
    assert list(kept(words, top_p=0.4)) == [0]
    assert list(kept(words, top_k=3, top_p=0.57)) == [0]  # 0.5 is 4/7 of the three likeliest
    assert list(kept(words, top_k=3, top_p=0.58)) == [0, 1]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.4999, 0.5001, 0.7499, 0.7501, 1 - 2**-53])
def test_a_number_from_0_to_1_finds_its_word(place: float) -> None:
    words = torch.tensor([[0.25, 0.0, 0.5, 0.25]]).log()
    expected = 2 if place < 0.5 else 0 if place < 0.75 else 3  # the likeliest first, then in their order
    assert draw(words, torch.tensor([place], dtype=torch.float64), options()).tolist() == [expected]


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.6}, {"top_k": 2}, {"top_p": 0.6}, {"repeat_ngram": 1}])
def test_captions_are_drawn_as_often_as_their_probability_says(changes: dict[str, float]) -> None:
    """χ² of 4,000 captions against the probability of each, worked out word by word; its 99.9th percentile."""
    draws = 4000
    chosen = options(n_best=draws, seed=7, **changes)
    decoder = Table(3, peak=1.0)
    [found] = sample(decoder, images(2), chosen, None)
    counts: dict[tuple[int, ...], int] = {}
    for h in found:
        counts[h.ids] = counts.get(h.ids, 0) + 1
    expected = probabilities(decoder, 2, chosen)
    assert sum(expected.values()) == pytest.approx(1)
    assert counts.keys() <= expected.keys()
    common = {ids: p * draws for ids, p in expected.items() if p * draws >= 5}
    rest, rest_found = draws - sum(common.values()), draws - sum(counts.get(ids, 0) for ids in common)
    statistic = sum((counts.get(ids, 0) - wanted) ** 2 / wanted for ids, wanted in common.items())
    statistic += (rest_found - rest) ** 2 / rest if rest > 5 else 0
    degrees = len(common)
    limit = degrees * (1 - 2 / (9 * degrees) + 3.09 * math.sqrt(2 / (9 * degrees))) ** 3  # Wilson and Hilferty 1931
    assert statistic < limit


def probabilities(decoder: Table, image: int, chosen: SearchOptions) -> dict[tuple[int, ...], float]:
    """The probability that each caption is drawn with, by hand."""
    found = {}
    for _, ids in exhaustive(decoder, image, chosen):
        state, token, probability = decoder.init(images(image)), 1, 1.0
        for place, following in enumerate((*ids, EOS)):
            logits, state = decoder.step(torch.tensor([token]), state)
            if place < chosen.max_words:
                banned = {0, 1, 3} | (set(ids[:place]) if chosen.repeat_ngram else set())
                allowed = sorted(set(range(WORDS)) - banned, key=lambda word: -logits[0, word].item())
                allowed = allowed[: chosen.top_k or None]
                mass = {w: math.exp(logits[0, w].item() / chosen.temperature) for w in allowed}
                total, reached, nucleus = sum(mass.values()), 0.0, {}
                for word in allowed:
                    if reached < chosen.top_p * total:
                        nucleus[word] = mass[word]
                    reached += mass[word]
                probability *= nucleus.get(following, 0.0) / sum(nucleus.values())
            token = following
        if probability:
            found[ids] = probability
    return found


@examples(30)
@given(seed=st.integers(0, 10_000), temperature=st.sampled_from([1e-300, 1e-9]), repeat=st.integers(0, 2))
def test_a_temperature_of_almost_nothing_is_greedy(seed: int, temperature: float, repeat: int) -> None:
    cold = SearchOptions(1, 6, repeat_ngram=repeat, method="sample", temperature=temperature, seed=seed)
    greedy = SearchOptions(1, 6, repeat_ngram=repeat)
    assert [h.ids for h in search(Table(seed), images(1, 2, 3), cold)] == [
        h.ids for h in search(Table(seed), images(1, 2, 3), greedy)
    ]


def test_one_word_or_a_tiny_nucleus_is_greedy() -> None:
    greedy = search(Table(4), images(1, 2), SearchOptions(1, 6))
    for changes in ({"top_k": 1}, {"top_p": 1e-6}):
        chosen = SearchOptions(1, 6, method="sample", **changes)  # type: ignore[arg-type]
        assert [h.ids for h in search(Table(4), images(1, 2), chosen)] == [h.ids for h in greedy]


def test_the_same_seed_gives_the_same_captions_in_any_batch() -> None:
    chosen = SearchOptions(1, 6, method="sample", n_best=3, seed=5)
    together = n_best(Table(2), images(1, 2, 3, 4), chosen, keys=[11, 12, 13, 14])
    assert together == n_best(Table(2), images(1, 2, 3, 4), chosen, keys=[11, 12, 13, 14])
    alone = [n_best(Table(2), images(n), chosen, keys=[10 + n])[0] for n in (1, 2, 3, 4)]
    assert together == alone
    torch.manual_seed(99)  # nothing depends on the global state
    assert together == n_best(Table(2), images(1, 2, 3, 4), chosen, keys=[11, 12, 13, 14])


def test_other_seeds_and_other_images_draw_otherwise() -> None:
    def drawn(seed: int, key: int) -> list[tuple[int, ...]]:
        chosen = SearchOptions(1, 6, method="sample", n_best=30, seed=seed)
        return [h.ids for h in sample(Table(2, peak=0.5), images(1), chosen, [key])[0]]

    assert len({tuple(drawn(seed, key)) for seed in (1, 2) for key in (1, 2)}) == 4
    assert len(set(drawn(1, 1))) > 4

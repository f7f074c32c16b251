"""Diverse beam search: one group is beam search, and groups say other words than those before them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioning.decoders.base import State
from captioning.search import SearchOptions, n_best, search
from captioning.search.diverse import _Group, diverse_search
from tests.properties import examples
from tests.special import EOS
from tests.toys import WORDS, Table, images


@examples(30)
@given(
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 4),
    penalty=st.sampled_from([0.0, 1.0]),
    repeat=st.integers(0, 2),
    strength=st.sampled_from([0.0, 3.0]),
)
def test_one_group_is_beam_search(seed: int, beam: int, penalty: float, repeat: int, strength: float) -> None:
    """Whatever the strength: there is nobody to differ from."""
    options = SearchOptions(beam, 6, 0, penalty, repeat, n_best=beam)
    diverse = SearchOptions(beam, 6, 0, penalty, repeat, "diverse", beam, groups=1, strength=strength)
    assert n_best(Table(seed), images(1, 2), diverse) == n_best(Table(seed), images(1, 2), options)


class Fixed(Table):
    """The same three words and end at every step, whatever was said: p of 0.4, 0.35, 0.2 and 0.05."""

    def __init__(self) -> None:
        super().__init__(0)

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        logits = torch.full((len(tokens), WORDS), -50.0)
        logits[:, [4, 5, 6, EOS]] = torch.tensor([0.4, 0.35, 0.2, 0.05]).log()
        return logits, state


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0.0, {(4, 4)}),
        (0.05, {(4, 4)}),  # ln(0.4 / 0.35) = 0.13 is more than the third group would save
        (0.1, {(4, 4), (5, 5)}),
        (0.5, {(4, 4), (5, 5)}),  # ln(0.4 / 0.2) = 0.69 is more: the third group says what the first says
        (0.8, {(4, 4), (5, 5), (6, 6)}),
    ],
)
def test_groups_pay_for_the_words_of_those_before(strength: float, expected: set[tuple[int, ...]]) -> None:
    options = SearchOptions(3, 2, 2, method="diverse", n_best=1, groups=3, strength=strength)
    [found] = diverse_search(Fixed(), images(1), options)
    assert len(found) == 3
    assert {h.ids for h in found} == expected


def test_what_was_paid_counts_at_the_next_step() -> None:
    """Begun with 5, which costs nothing more, a hypothesis stays ahead of one begun with 4, which is likelier."""

    class Turning(Table):
        """First 4 or 5, of p 0.6 and 0.4; then nothing but 6."""

        def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            logits = torch.full((len(tokens), WORDS), -50.0)
            first = torch.tensor([0.6, 0.4]).log()
            for row, token in enumerate(tokens.tolist()):
                if token < 4:
                    logits[row, 4:6] = first
                else:
                    logits[row, 6] = 0.0
            return logits, state

    options = SearchOptions(4, 2, 2, method="diverse", n_best=2, groups=2, strength=1.0)
    group = _Group(Turning(0), (torch.zeros(1),), SearchOptions(2, 2, 2, strength=1.0))
    group.word_counts = torch.zeros(1, WORDS)
    group.word_counts[0, 4] = 2
    logits, _ = Turning(0).step(group.last_tokens(), group.state)
    group.advance(logits, group.state)
    assert group.tokens[0, :, -1].tolist() == [5, 4]
    assert group.paid.tolist() == [[0.0, 2.0]]
    assert group.scores[0].tolist() == pytest.approx([-0.9163, -0.5108], abs=1e-4)
    assert group.word_counts[0, 4:6].tolist() == [3, 1]
    logits, _ = Turning(0).step(group.last_tokens(), (torch.zeros(2),))
    group.advance(logits, (torch.zeros(2),))
    assert group.tokens[0, :, 1:].tolist() == [[5, 6], [4, 6]]
    assert {h.ids for h in n_best(Turning(0), images(1), options)[0]} == {(4, 6), (5, 6)}


def test_diversity_makes_lists_differ_more() -> None:
    """Words that differ between the captions of a list, over many images."""

    def different(strength: float) -> int:
        options = SearchOptions(4, 5, 2, method="diverse", n_best=1, groups=4, strength=strength)
        found = diverse_search(Table(5), images(*range(1, 41)), options)
        return sum(len({h.ids[0] for h in captions}) for captions in found)

    assert different(0.0) == 40
    assert different(0.0) < different(0.5) < different(2.0)


@examples(20)
@given(seed=st.integers(0, 10_000))
def test_a_batch_gives_what_single_images_give(seed: int) -> None:
    options = SearchOptions(4, 6, 0, 1.0, method="diverse", n_best=2, groups=2, strength=0.7)
    together = search(Table(seed), images(1, 2, 3, 4), options)
    assert together == [search(Table(seed), images(n), options)[0] for n in (1, 2, 3, 4)]

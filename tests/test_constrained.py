"""Captions that say what they must: always, as cheaply as can be, or a clear refusal."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.search import SearchOptions, n_best, phrases, search
from captioning.search.constrained import Machine, constrained_search
from captioning.system.errors import UserError
from tests.properties import examples
from tests.toys import FIRST_WORD, WORDS, Ids, Table, exhaustive, images

words = st.integers(FIRST_WORD, WORDS - 1)
musts = st.lists(st.lists(words, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3).map(tuple)


def says(ids: Ids, phrase: Ids) -> bool:
    return any(ids[start : start + len(phrase)] == phrase for start in range(len(ids)))


@examples(40)
@given(
    seed=st.integers(0, 10_000),
    must=musts,
    penalty=st.sampled_from([0.0, 0.7, 1.0]),
    min_words=st.integers(0, 2),
    repeat=st.sampled_from([0, 0, 2]),
)
def test_a_wide_beam_equals_exhaustive_search(
    seed: int, must: tuple[Ids, ...], penalty: float, min_words: int, repeat: int
) -> None:
    options = SearchOptions(121, 4, min_words, penalty, repeat, n_best=3, must=must)
    best = [x for x in exhaustive(Table(seed), 3, options) if all(says(x[1], phrase) for phrase in must)][:3]
    assume(best)
    [found] = n_best(Table(seed), images(3), options)
    assert [h.ids for h in found] == [ids for _, ids in best]
    assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-5)


@examples(60)
@given(seed=st.integers(0, 10_000), must=musts, beam=st.integers(1, 3), max_words=st.integers(9, 11))
def test_all_is_said_by_every_caption_however_narrow_the_beam(
    seed: int, must: tuple[Ids, ...], beam: int, max_words: int
) -> None:
    options = SearchOptions(beam, max_words, n_best=beam, must=must)
    for found in n_best(Table(seed, peak=4.0), images(1, 2), options):
        assert found
        for h in found:
            assert all(says(h.ids, phrase) for phrase in must)
            assert len(h.ids) <= max_words


@examples(40)
@given(
    seed=st.integers(0, 10_000), beam=st.integers(1, 4), penalty=st.sampled_from([0.0, 1.0]), count=st.integers(1, 3)
)
def test_nothing_that_must_be_said_is_beam_search(seed: int, beam: int, penalty: float, count: int) -> None:
    options = SearchOptions(max(beam, count), 6, 0, penalty, n_best=count)
    found = constrained_search(Table(seed), images(1, 2), options)
    plain = n_best(Table(seed), images(1, 2), options)
    for ended, expected in zip(found, plain, strict=True):
        assert set(expected) <= set(ended)
        assert max(h.score for h in ended) == expected[0].score


@examples(100)
@given(must=musts, said=st.lists(words, max_size=7))
def test_the_machine_knows_what_has_been_said(must: tuple[Ids, ...], said: list[int]) -> None:
    machine = Machine.build(must)
    table, state = machine.table(WORDS, Vocabulary.special), 0
    for place, word in enumerate(said):
        state = int(table[state, word])
        assert (state == len(table) - 1) == all(says(tuple(said[: place + 1]), phrase) for phrase in must)


@examples(30)
@given(must=musts)
def test_the_shortest_caption_is_known(must: tuple[Ids, ...]) -> None:
    shortest = Machine.build(must).shortest
    for size in range(max(0, shortest - 1), shortest + 1):
        found = any(
            all(says(ids, phrase) for phrase in must)
            for ids in itertools.product(range(FIRST_WORD, WORDS), repeat=min(size, 6))
        )
        if size <= 6:
            assert found == (size == shortest)


def test_words_that_share_a_part_may_overlap() -> None:
    assert Machine.build(((4, 5), (5, 6))).shortest == 3
    assert Machine.build(((4, 5, 6), (5,))).shortest == 3
    assert Machine.build(((4,), (5,), (6,))).after == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_batch_gives_what_single_images_give() -> None:
    options = SearchOptions(3, 7, length_penalty=1.0, must=((6, 4), (5,)))
    together = search(Table(3), images(1, 2, 3, 4), options)
    assert together == [search(Table(3), images(n), options)[0] for n in (1, 2, 3, 4)]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"max_words = 2: the required words and phrases take 3 words"):
        search(Table(1), images(1), SearchOptions(3, 2, must=((4,), (5, 6))))
    with pytest.raises(UserError, match=r"found under repeat_ngram = 1 and max_words = 9"):
        search(Table(1), images(1), SearchOptions(3, 9, repeat_ngram=1, must=((4, 4),)))
    with pytest.raises(UserError, match=r"must: 7 phrases .* are too many"):
        Machine.build(tuple((word,) for word in range(4, 11)))


def test_phrases_are_read_as_captions_are() -> None:
    vocabulary = Vocabulary((*SPECIAL, "dog", "frisbee", "red", "dot"))
    assert phrases(vocabulary, ["Dog", "dog", "red frisbee."]) == ((4,), (6, 5))
    with pytest.raises(UserError, match=r"must 'doge': .* no word 'doge'; did you mean dog or dot\?"):
        phrases(vocabulary, ["doge"])
    with pytest.raises(UserError, match=r"must 'red zeppelin': .* no word 'zeppelin'$"):
        phrases(vocabulary, ["red zeppelin"])
    with pytest.raises(UserError, match=r"must '\.': there is no word in it"):
        phrases(vocabulary, ["."])
    with pytest.raises(UserError, match="no word '<unk>'"):
        phrases(vocabulary, ["<unk>"])


def test_the_log_probability_is_not_touched() -> None:
    """It is that of the caption, required words or not."""
    decoder, options = Table(8), SearchOptions(2, 5, must=((5,),))
    [found] = search(decoder, images(2), options)
    state, total = decoder.init(images(2)), 0.0
    for token, following in zip((1, *found.ids), (*found.ids, 2), strict=True):
        logits, state = decoder.step(torch.tensor([token]), state)
        total += float(logits[0].log_softmax(0)[following])
    assert found.log_probability == pytest.approx(total, abs=1e-5)

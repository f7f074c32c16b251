"""Captions that say what they must: always, as cheaply as can be, or a clear refusal."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.vocabulary import numbered
from captioning.data.text.phrases import phrases
from captioning.data.text.vocabulary import SPECIAL, Pieces, Vocabulary
from captioning.search import SearchOptions, n_best, search
from captioning.search.constrained import Machine, constrained_search
from captioning.system.errors import UserError
from tests.properties import examples
from tests.special import BOS, EOS
from tests.toys import FIRST_WORD, WORDS, Ids, Table, exhaustive, images

words = st.integers(FIRST_WORD, WORDS - 1)
NUMBERED = numbered(WORDS)
phrase = st.lists(words, min_size=1, max_size=3).map(tuple)
musts = st.lists(phrase, min_size=1, max_size=3).map(tuple)


groups = st.lists(st.lists(phrase, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)


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
    [table], state = Machine.build(must, NUMBERED).table(NUMBERED), 0
    for place, word in enumerate(said):
        state = int(table[state, word])
        assert (state == len(table) - 1) == all(says(tuple(said[: place + 1]), phrase) for phrase in must)


@examples(30)
@given(must=musts)
def test_the_shortest_caption_is_known(must: tuple[Ids, ...]) -> None:
    shortest = Machine.build(must, NUMBERED).shortest
    for size in range(max(0, shortest - 1), shortest + 1):
        found = any(
            all(says(ids, phrase) for phrase in must)
            for ids in itertools.product(range(FIRST_WORD, WORDS), repeat=min(size, 6))
        )
        if size <= 6:
            assert found == (size == shortest)


def enough(ids: Ids, some_of: tuple[tuple[Ids, ...], ...], least: int, must: tuple[Ids, ...] = ()) -> bool:
    """Whether all of `must` and so many groups are said."""
    said = sum(any(says(ids, phrase) for phrase in group) for group in some_of)
    return said >= least and all(says(ids, phrase) for phrase in must)


@examples(30)
@given(
    seed=st.integers(0, 10_000),
    some_of=groups,
    share=st.floats(0, 1),
    must=st.sampled_from([(), (), ((4,),), ((5, 6),)]),
    penalty=st.sampled_from([0.0, 1.0]),
)
def test_a_wide_beam_finds_the_best_captions_that_say_enough_of_some_groups(
    seed: int, some_of: tuple[tuple[Ids, ...], ...], share: float, must: tuple[Ids, ...], penalty: float
) -> None:
    least = round(share * len(some_of))
    options = SearchOptions(121, 4, 0, penalty, n_best=3, must=must, some_of=some_of, least=least)
    best = [x for x in exhaustive(Table(seed), 3, options) if enough(x[1], some_of, least, must)][:3]
    assume(best)
    [found] = n_best(Table(seed), images(3), options)
    assert [h.ids for h in found] == [ids for _, ids in best]


@examples(40)
@given(seed=st.integers(0, 10_000), some_of=groups, beam=st.integers(1, 3))
def test_every_caption_says_enough_however_narrow_the_beam(
    seed: int, some_of: tuple[tuple[Ids, ...], ...], beam: int
) -> None:
    least = min(2, len(some_of))
    options = SearchOptions(beam, 9, n_best=beam, some_of=some_of, least=least)
    for found in n_best(Table(seed, peak=4.0), images(1, 2), options):
        assert found
        assert all(enough(h.ids, some_of, least) for h in found)


@examples(100)
@given(some_of=groups, must=st.sampled_from([(), ((4,),)]), said=st.lists(words, max_size=7), data=st.data())
def test_the_machine_knows_when_enough_has_been_said(
    some_of: tuple[tuple[Ids, ...], ...], must: tuple[Ids, ...], said: list[int], data: st.DataObject
) -> None:
    least = data.draw(st.integers(0, len(some_of)))
    machine = Machine.build(must, NUMBERED, some_of, least)
    [table], state = machine.table(NUMBERED), 0
    assert machine.ends[0] == enough((), some_of, least, must)
    for place, word in enumerate(said):
        state = int(table[state, word])
        assert machine.ends[state] == enough(tuple(said[: place + 1]), some_of, least, must)
        assert machine.ends[state] == (int(table[state, EOS]) == len(table) - 1)


def test_what_is_not_needed_any_more_is_forgotten() -> None:
    """Of three words: none, or one of them, and then two are enough."""
    three = (((4,),), ((5,),), ((6,),))
    assert len(Machine.build((), NUMBERED, three, 2).ends) == 1 + 3 + 1
    assert len(Machine.build((), NUMBERED, three, 3).ends) == 8
    assert len(Machine.build((), NUMBERED, three, 0).ends) == 1
    assert Machine.build((), NUMBERED, (((4, 5, 6), (5,)), ((4, 4), (6, 6, 6))), 2).shortest == 3
    assert Machine.build((), NUMBERED, (((4, 5, 6), (5,)), ((4, 4), (6, 6, 6))), 1).shortest == 1


def test_words_that_share_a_part_may_overlap() -> None:
    assert Machine.build(((4, 5), (5, 6)), NUMBERED).shortest == 3
    assert Machine.build(((4, 5, 6), (5,)), NUMBERED).shortest == 3
    assert len(Machine.build(((4,), (5,), (6,)), NUMBERED).ends) == 8


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
        Machine.build(tuple((word,) for word in range(4, 11)), numbered(11))


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


PIECES = Pieces((*Pieces.names, "snow", "board", "-", "##board", "##er"))
in_pieces = st.sampled_from(
    [("snow",), ("board",), ("snowboard",), ("snow-board",), ("snow", "board"), ("snow", "snow")]
)


def says_words(ids: Ids, phrase: tuple[str, ...]) -> bool:
    said = tuple(word for word, _ in PIECES.spans(ids))
    return any(said[start : start + len(phrase)] == phrase for start in range(len(said)))


@examples(200)
@given(must=st.sets(in_pieces, min_size=1, max_size=3).map(sorted), said=st.lists(st.integers(4, 8), max_size=7))
def test_the_machine_knows_which_whole_words_have_been_said(must: list[tuple[str, ...]], said: list[int]) -> None:
    """A piece that turns out to begin a longer word, or to end one, is not the word."""
    machine = Machine.build(tuple(tuple(PIECES.encode(phrase)) for phrase in must), PIECES)
    table, state, before = machine.table(PIECES), 0, BOS
    for place, token in enumerate(said):
        state = int(table[int(before in PIECES.opening), state, token])
        before = token
        assert machine.ends[state] == all(says_words(tuple(said[: place + 1]), phrase) for phrase in must)
        assert int(table[0, state, EOS]) == (len(machine.ends) - 1 if machine.ends[state] else -1)


@examples(200)
@given(
    some_of=st.lists(st.sets(in_pieces, min_size=1, max_size=2).map(sorted), min_size=1, max_size=2),
    least=st.integers(0, 2),
    said=st.lists(st.integers(4, 8), max_size=7).filter(lambda said: said[:1] not in ([7], [8])),  # `##board`, `##er`
)
def test_a_whole_word_of_a_group_is_enough(some_of: list[list[tuple[str, ...]]], least: int, said: list[int]) -> None:
    least = min(least, len(some_of))
    ids = tuple(tuple(tuple(PIECES.encode(phrase)) for phrase in group) for group in some_of)
    machine = Machine.build((), PIECES, ids, least)
    table, state, before = machine.table(PIECES), 0, BOS
    for place, token in enumerate(said):
        state = int(table[int(before in PIECES.opening), state, token])
        before = token
        text = tuple(said[: place + 1])
        assert machine.ends[state] == (sum(any(says_words(text, one) for one in group) for group in some_of) >= least)


class TableOfPieces(Table):
    """`Table`, whose words are pieces."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.vocabulary = Pieces((*Pieces.names, "snow", "-", "##er"))


@examples(40)
@given(seed=st.integers(0, 10_000), must=st.sampled_from([("snow",), ("snower",), ("snow", "snow"), ("snow-snow",)]))
def test_a_wide_beam_of_pieces_equals_exhaustive_search(seed: int, must: tuple[str, ...]) -> None:
    decoder = TableOfPieces(seed)
    options = SearchOptions(121, 4, 0, 1.0, must=phrases(decoder.vocabulary, [" ".join(must)]))
    said = [(ids, decoder.vocabulary.decode(ids)) for _, ids in exhaustive(decoder, 3, options)]
    best = [ids for ids, caption in said if f" {' '.join(must)} " in f" {caption} "]
    assert n_best(decoder, images(3), options)[0][0].ids == best[0]


def test_words_of_several_pieces_can_be_asked_for() -> None:
    assert phrases(PIECES, ["Snowboarder", "snow board"]) == ((4, 7, 8), (4, 5))
    with pytest.raises(UserError, match=r"must 'snowman': .* no word 'snowman'; did you mean snow\?"):
        phrases(PIECES, ["snowman"])

"""Search over a decoder's `step`: exhaustive on a tiny vocabulary, and every ban holds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.vocabulary import numbered
from captioning.decoders.base import Decoder, State
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.search import SearchOptions, n_best, search
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded
from tests import variants
from tests.casting import Casts
from tests.properties import examples
from tests.special import BOS, EOS, PAD, UNK
from tests.toys import FIRST_WORD, WORDS, Table, exhaustive, images


@examples(25)
@given(
    seed=st.integers(0, 10_000),
    penalty=st.sampled_from([0.0, 0.7, 1.0]),
    min_words=st.integers(0, 2),
    repeat=st.integers(0, 2),
)
def test_a_wide_beam_equals_exhaustive_search(seed: int, penalty: float, min_words: int, repeat: int) -> None:
    options = SearchOptions(
        beam_size=121, max_words=4, min_words=min_words, length_penalty=penalty, repeat_ngram=repeat
    )
    decoder = Table(seed)
    for image, found in zip((3, 8), search(decoder, images(3, 8), options), strict=True):
        score, ids = exhaustive(decoder, image, options)[0]
        assert found.ids == ids
        assert found.score == pytest.approx(score, abs=1e-5)


@examples(15)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 1.0]), count=st.integers(1, 9))
def test_the_n_best_of_a_wide_beam_are_the_n_best_of_all(seed: int, penalty: float, count: int) -> None:
    options = SearchOptions(beam_size=121, max_words=4, length_penalty=penalty, n_best=count)
    [found] = n_best(Table(seed), images(3), options)
    best = exhaustive(Table(seed), 3, options)[:count]
    assert [h.ids for h in found] == [ids for _, ids in best]
    assert [h.score for h in found] == pytest.approx([score for score, _ in best], abs=1e-5)


METHODS = {"beam": {}, "diverse": {"groups": 2, "strength": 0.4}, "sample": {"temperature": 2.0}}


@pytest.mark.parametrize("method", METHODS)
@examples(20)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 1.0]), min_words=st.integers(0, 2))
def test_n_best_are_sorted_and_different_and_begin_with_the_best(
    method: str, seed: int, penalty: float, min_words: int
) -> None:
    options = SearchOptions(4, 5, min_words, penalty, method=method, n_best=4, **METHODS[method])  # type: ignore[arg-type]
    together = n_best(Table(seed, peak=0.7), images(1, 2), options)
    assert [found[0] for found in together] == search(Table(seed, peak=0.7), images(1, 2), options)
    for found in together:
        assert 1 <= len(found) <= 4
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert len({h.ids for h in found}) == len(found)
        for h in found:
            assert h.score == pytest.approx(h.log_probability / (len(h.ids) + 1) ** penalty)
            assert h.log_probability == pytest.approx(
                likelihood(Table(seed, peak=0.7), together.index(found) + 1, h.ids)
            )


def likelihood(decoder: Decoder, image: int, ids: tuple[int, ...]) -> float:
    state, total = decoder.init(images(image)), 0.0
    for token, following in zip((BOS, *ids), (*ids, EOS), strict=True):
        logits, state = decoder.step(torch.tensor([token]), state)
        total += float(logits[0].log_softmax(0)[following])
    return total


@pytest.mark.parametrize("method", METHODS)
def test_where_all_is_banned_there_is_one_empty_caption(method: str) -> None:
    """Three words, none twice, and at least five of them."""
    options = SearchOptions(4, 9, 5, repeat_ngram=1, method=method, n_best=2, **METHODS[method])  # type: ignore[arg-type]
    for found in n_best(Table(1), images(1, 2), options):
        assert [(h.ids, h.score, h.log_probability) for h in found] == [((), -math.inf, -math.inf)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_words": 6}, "min_words = 6 is more than max_words = 5"),
        ({"n_best": 4}, "n_best = 4 is more than beam_size = 3"),
        ({"method": "diverse", "groups": 2}, "beam_size = 3 is not a multiple of groups = 2"),
        (
            {"method": "sample", "rank_by": "consensus"},
            "rank_by = consensus compares captions, and n_best = 1 finds one",
        ),
        ({"method": "sample", "must": ((4,),)}, "method = sample: only beam search supports `must`"),
        ({"method": "diverse", "some_of": (((4,),),)}, "method = diverse: only beam search supports required objects"),
        ({"some_of": (((4,),),), "least": 2}, "least = 2 is more than the 1 groups; ask for less"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SearchOptions(3, 5, **changes)  # type: ignore[arg-type]


def greedy(decoder: Decoder, encoded: Encoded, max_words: int) -> tuple[int, ...]:
    state, token, said = decoder.init(encoded), BOS, []
    while len(said) < max_words:
        logits, state = decoder.step(torch.tensor([token]), state)
        logits[:, [PAD, BOS, UNK]] = -torch.inf
        token = int(logits.argmax())
        if token == EOS:
            break
        said.append(token)
    return tuple(said)


@examples(30)
@given(seed=st.integers(0, 10_000))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    decoder = Table(seed)
    found = search(decoder, images(1, 2, 3), SearchOptions(beam_size=1, max_words=6))
    assert [h.ids for h in found] == [greedy(decoder, images(n), 6) for n in (1, 2, 3)]


@examples(30)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 4), penalty=st.sampled_from([0.0, 1.0]))
def test_a_batch_gives_what_single_images_give(seed: int, beam: int, penalty: float) -> None:
    decoder = Table(seed)
    options = SearchOptions(beam_size=beam, max_words=7, length_penalty=penalty)
    together = search(decoder, images(1, 2, 3, 4), options)
    assert together == [search(decoder, images(n), options)[0] for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("method", METHODS)
@examples(40)
@given(
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 5),
    max_words=st.integers(3, 9),
    min_words=st.integers(0, 3),
    repeat=st.integers(0, 3),
)
def test_bans_and_lengths_hold(method: str, seed: int, beam: int, max_words: int, min_words: int, repeat: int) -> None:
    options = SearchOptions(2 * beam, max_words, min_words, 0.0, repeat, method, **METHODS[method])  # type: ignore[arg-type]
    for found in search(Table(seed, peak=0.3), images(1, 2), options):
        assert min_words <= len(found.ids) <= max_words
        assert all(FIRST_WORD <= index < WORDS for index in found.ids)
        grams = [found.ids[i : i + repeat] for i in range(len(found.ids) - repeat + 1)] if repeat else []
        assert len(set(grams)) == len(grams)
        assert math.isfinite(found.score)


def test_a_wider_beam_finds_a_better_caption_on_average() -> None:
    scores = {
        beam: sum(search(Table(seed), images(1), SearchOptions(beam, 6))[0].score for seed in range(40))
        for beam in (1, 3, 8)
    }
    assert scores[1] < scores[3] < scores[8]


def test_a_caption_that_never_ends_is_cut() -> None:
    class Endless(Table):
        def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            logits, state = super().step(tokens, state)
            logits[:, EOS] = -50.0
            return logits, state

    found = search(Endless(1), images(1), SearchOptions(beam_size=2, max_words=5))
    assert len(found[0].ids) == 5


def test_search_over_the_lstm_is_the_same_alone_and_in_a_batch() -> None:
    torch.manual_seed(0)
    decoder = LstmDecoder(numbered(20), 8, LstmOptions(16, 24, 2, 0.0)).eval()
    mean = torch.randn(5, 8)
    options = SearchOptions(beam_size=3, max_words=8)
    together = search(decoder, Encoded(mean, None), options)
    alone = [search(decoder, Encoded(mean[i : i + 1], None), options)[0] for i in range(5)]
    assert [h.ids for h in together] == [h.ids for h in alone]


def test_under_autocast_weights_are_cast_once_and_not_at_every_step() -> None:
    decoder, encoded = variants.build("transformer").eval(), variants.images(2)
    options = SearchOptions(beam_size=2, max_words=5, min_words=5)
    with Casts() as casts, torch.autocast("cpu", torch.bfloat16):
        search(decoder, encoded, options)
    assert set(casts.of(decoder.parameters())) == {0, 1}

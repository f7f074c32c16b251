"""Search over a decoder's `step`: exhaustive on a tiny vocabulary, and every ban holds."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioning.decoders.base import Decoder, Encoded, State
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.search import SearchOptions, search
from captioning.vocabulary import BOS, EOS, PAD, UNK

WORDS = 7  # four special tokens and three words
FIRST_WORD = 4


class Table(Decoder):
    """Logits that depend on the picture, on all words said so far and on nothing else: nothing can be shared."""

    def __init__(self, seed: int, peak: float = 2.0) -> None:
        super().__init__()
        self.seed, self.peak = seed, peak

    def init(self, encoded: Encoded) -> State:
        return (encoded.mean[:, 0].long(),)  # a number for the history, begun with the picture's

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        history = state[0] * WORDS + tokens
        rows = [torch.randn(WORDS, generator=self._generator(int(number))) * self.peak for number in history]
        return torch.stack(rows), (history,)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) % (2**31))


def pictures(*numbers: int) -> Encoded:
    return Encoded(torch.tensor(numbers, dtype=torch.float32).unsqueeze(1), None)


def exhaustive(decoder: Table, picture: int, options: SearchOptions) -> tuple[tuple[int, ...], float]:
    """The best of all captions, each scored by itself."""
    best: tuple[tuple[int, ...], float] = ((), -math.inf)
    for length in range(options.min_words, options.max_words + 1):
        for ids in itertools.product(range(FIRST_WORD, WORDS), repeat=length):
            grams = [ids[i : i + options.repeat_ngram] for i in range(length - options.repeat_ngram + 1)]
            if options.repeat_ngram and len(set(grams)) < len(grams):
                continue
            state, token, total = decoder.init(pictures(picture)), BOS, 0.0
            for following in (*ids, EOS):
                logits, state = decoder.step(torch.tensor([token]), state)
                total += float(logits[0].log_softmax(0)[following])
                token = following
            score = total / (length + 1) ** options.length_penalty
            if score > best[1]:
                best = (ids, score)
    return best


@settings(max_examples=25, deadline=None)
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
    for picture, found in zip((3, 8), search(decoder, pictures(3, 8), options), strict=True):
        ids, score = exhaustive(decoder, picture, options)
        assert found.ids == ids
        assert found.score == pytest.approx(score, abs=1e-5)


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


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    decoder = Table(seed)
    found = search(decoder, pictures(1, 2, 3), SearchOptions(beam_size=1, max_words=6))
    assert [h.ids for h in found] == [greedy(decoder, pictures(n), 6) for n in (1, 2, 3)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 4), penalty=st.sampled_from([0.0, 1.0]))
def test_a_batch_gives_what_single_images_give(seed: int, beam: int, penalty: float) -> None:
    decoder = Table(seed)
    options = SearchOptions(beam_size=beam, max_words=7, length_penalty=penalty)
    together = search(decoder, pictures(1, 2, 3, 4), options)
    assert together == [search(decoder, pictures(n), options)[0] for n in (1, 2, 3, 4)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    beam=st.integers(1, 5),
    max_words=st.integers(3, 9),
    min_words=st.integers(0, 3),
    repeat=st.integers(0, 3),
)
def test_bans_and_lengths_hold(seed: int, beam: int, max_words: int, min_words: int, repeat: int) -> None:
    options = SearchOptions(beam_size=beam, max_words=max_words, min_words=min_words, repeat_ngram=repeat)
    for found in search(Table(seed, peak=0.3), pictures(1, 2), options):
        assert min_words <= len(found.ids) <= max_words
        assert all(FIRST_WORD <= index < WORDS for index in found.ids)
        grams = [found.ids[i : i + repeat] for i in range(len(found.ids) - repeat + 1)] if repeat else []
        assert len(set(grams)) == len(grams)
        assert math.isfinite(found.score)


def test_a_wider_beam_finds_a_better_caption_on_average() -> None:
    scores = {
        beam: sum(search(Table(seed), pictures(1), SearchOptions(beam, 6))[0].score for seed in range(40))
        for beam in (1, 3, 8)
    }
    assert scores[1] < scores[3] < scores[8]


def test_a_caption_that_never_ends_is_cut() -> None:
    class Endless(Table):
        def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
            logits, state = super().step(tokens, state)
            logits[:, EOS] = -50.0
            return logits, state

    found = search(Endless(1), pictures(1), SearchOptions(beam_size=2, max_words=5))
    assert len(found[0].ids) == 5


def test_search_over_the_lstm_is_the_same_alone_and_in_a_batch() -> None:
    torch.manual_seed(0)
    decoder = LstmDecoder(20, 8, LstmOptions(16, 24, 2, 0.0)).eval()
    mean = torch.randn(5, 8)
    options = SearchOptions(beam_size=3, max_words=8)
    together = search(decoder, Encoded(mean, None), options)
    alone = [search(decoder, Encoded(mean[i : i + 1], None), options)[0] for i in range(5)]
    assert [h.ids for h in together] == [h.ids for h in alone]

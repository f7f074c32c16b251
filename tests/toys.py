"""A decoder whose every word is known: what the tests of search run over."""

import itertools

import torch

from benchmarks.vocabulary import numbered
from captioning.decoders.base import Decoder, State
from captioning.search import SearchOptions
from captioning.vision.encoders.encoded import Encoded
from tests.special import BOS, EOS

Ids = tuple[int, ...]
WORDS = 7  # four special tokens and three words
FIRST_WORD = 4


class Table(Decoder):
    """Logits that depend on the image, on all words said so far and on nothing else: nothing can be shared."""

    def __init__(self, seed: int, peak: float = 2.0) -> None:
        super().__init__(numbered(WORDS))
        self.seed, self.peak = seed, peak

    def init(self, encoded: Encoded) -> State:
        return (encoded.mean[:, 0].long(),)  # a number for the history, begun with the image's

    def step(self, tokens: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        history = state[0] * WORDS + tokens
        rows = [torch.randn(WORDS, generator=self._generator(int(number))) * self.peak for number in history]
        return torch.stack(rows), (history,)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) % (2**31))


def images(*numbers: int) -> Encoded:
    return Encoded(torch.tensor(numbers, dtype=torch.float32).unsqueeze(1), None)


def exhaustive(decoder: Table, image: int, options: SearchOptions) -> list[tuple[float, Ids]]:
    """All captions that are not banned, each scored by itself, best first."""
    found = []
    for length in range(options.min_words, options.max_words + 1):
        for ids in itertools.product(range(FIRST_WORD, WORDS), repeat=length):
            grams = [ids[i : i + options.repeat_ngram] for i in range(length - options.repeat_ngram + 1)]
            if options.repeat_ngram and len(set(grams)) < len(grams):
                continue
            state, token, total = decoder.init(images(image)), BOS, 0.0
            for following in (*ids, EOS):
                logits, state = decoder.step(torch.tensor([token]), state)
                total += float(logits[0].log_softmax(0)[following])
                token = following
            found.append((total / (length + 1) ** options.length_penalty, ids))
    return sorted(found, reverse=True)

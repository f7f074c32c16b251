"""tf-idf and its cosine: by hand over dictionaries, and to the last bit what CIDEr-D, the reward and consensus were."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.metrics import score
from captioning.metrics.ngrams import ORDERS, Numbering, count, lengths, pack, unpack
from captioning.metrics.tfidf import Pairs, TfIdf, Weighed, cosine, match
from captioning.search.base import Hypothesis
from captioning.search.consensus import by_consensus
from captioning.training.rewards import CiderReward
from tests.special import EOS, PAD

GOLDEN = json.loads((Path(__file__).parent / "golden/cider.json").read_text(encoding="utf-8"))
VOCABULARY = Vocabulary((*SPECIAL, *(f"w{letter}" for letter in "abcdefghij")))
WORDS = 5
sentence = st.lists(st.integers(0, WORDS - 1), max_size=8).map(tuple)
groups = st.lists(
    st.tuples(st.lists(sentence, min_size=1, max_size=3), st.lists(sentence, min_size=1, max_size=3)), min_size=1
)
Words = tuple[int, ...]


def by_hand(ours: Words, theirs: Words, *, clipped: bool, sigma: float) -> float:
    """The idf of an n-gram is log(2 + its highest word)."""
    total = 0.0
    for size in range(1, ORDERS + 1):
        one, other = (Counter(ids[i : i + size] for i in range(len(ids) - size + 1)) for ids in (ours, theirs))
        idf = {ngram: math.log(2 + max(ngram)) for ngram in one | other}
        common = sum(
            (min(times, other[ngram]) if clipped else times) * other[ngram] * idf[ngram] ** 2
            for ngram, times in one.items()
        )
        norms = [math.hypot(*(times * idf[ngram] for ngram, times in counts.items())) for counts in (one, other)]
        total += common / math.prod(norms) if math.prod(norms) else 0.0
    return total / ORDERS * math.exp(-((len(ours) - len(theirs)) ** 2) / (2 * sigma**2))


@given(groups, st.booleans(), st.sampled_from([0.5, 6.0]))
def test_the_cosine_of_pairs_is_that_of_dictionaries(
    groups: list[tuple[list[Words], list[Words]]], clipped: bool, sigma: float
) -> None:
    """Sentences of several images, each compared with those of its own image."""
    ours = [(words, image) for image, (one, _) in enumerate(groups) for words in one][::-1]
    theirs = [words for _, other in groups for words in other]
    numbering = Numbering(WORDS)
    every = count([word for words in theirs for word in words], lengths(theirs), numbering.learn)
    idf = TfIdf([2.0 + highest for highest in numbering.highest_words()])
    here = [words for words, _ in ours]
    seen = count([word for words in here for word in words], lengths(here), numbering.look_up)
    known = seen.ngram < numbering.sizes[seen.order]
    sizes = np.array([len(other) for _, other in groups])
    images = np.array([image for _, image in ours])
    pairs = Pairs((np.cumsum(sizes) - sizes)[images], sizes[images])
    mine, other = idf.weigh(seen, lengths(here)), idf.weigh(every, lengths(theirs))
    found = cosine(mine, other, pairs, match(mine, other, pairs), clipped=clipped, sigma=sigma)
    assert len(found) == len(pairs.ours) == sum(sizes[image] for _, image in ours)
    exact = set(range(len(here))) - set(seen.sentence[~known].tolist())  # an unknown n-gram's idf is the table's last
    for one, referred, value in zip(pairs.ours, pairs.theirs, found, strict=True):
        if one in exact:
            expected = by_hand(here[one], theirs[referred], clipped=clipped, sigma=sigma)
            assert value == pytest.approx(expected, abs=1e-12)


def test_what_is_beyond_the_table_is_as_rare_as_its_last_entry() -> None:
    numbering = Numbering(3)
    counts = count([0, 1], np.array([2]), numbering.learn)
    idf = TfIdf.of_frequencies([np.array([4, 2, 0]), *[np.array([1, 0])] * 3], images=4)
    weighed: Weighed = idf.weigh(counts, np.array([2]))
    assert weighed.idf.tolist() == [math.log(1), math.log(2), math.log(4)]
    look = count([2, 2, 2, 9], np.array([4]), numbering.look_up)
    assert set(idf.weigh(look, np.array([4])).idf.tolist()) == {math.log(4)}


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1))
def test_packed_numbers_sort_as_pairs_and_come_back(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    keys = pack(first, second)
    assert [pairs[place] for place in np.argsort(keys, kind="stable")] == sorted(pairs)
    assert [*zip(*(part.tolist() for part in unpack(keys)), strict=True)] == pairs


def test_cider_of_captions_has_its_golden_bits() -> None:
    """Some n-grams are there three times: idf² times count² is rounded as ever."""
    references = dict(enumerate(GOLDEN["references"]))
    scores = score(references, dict(enumerate(GOLDEN["hypotheses"])))
    assert list(scores.per_image["cider"].values()) == GOLDEN["cider"]


def test_the_reward_has_its_golden_bits() -> None:
    captions = [(row, words.split()) for row, image in enumerate(GOLDEN["references"]) for words in image]
    encoded = EncodedCaptions.encode([words for _, words in captions], [row for row, _ in captions], VOCABULARY, 12)
    tokens = np.full((len(GOLDEN["hypotheses"]), 16), PAD)
    for row, words in enumerate(GOLDEN["hypotheses"]):
        ids = [*VOCABULARY.encode(words.split()), EOS]
        tokens[row, : len(ids)] = ids
    images = np.arange(len(tokens))
    assert CiderReward(encoded, VOCABULARY).score(images, tokens, images).tolist() == GOLDEN["reward"]


def test_consensus_has_its_golden_digits() -> None:
    captions = [tuple(VOCABULARY.encode(words.split())) for words in GOLDEN["hypotheses"]]
    hypotheses = [Hypothesis(ids, 0.0, -float(place)) for place, ids in enumerate(captions)]
    assert [found.score for found in by_consensus(hypotheses, 0.4, VOCABULARY)] == GOLDEN["consensus"]

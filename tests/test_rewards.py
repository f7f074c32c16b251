"""The reward is `metrics`' CIDEr-D with the training captions as references, `<eos>` included, and knows its words."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.metrics import score
from captioning.system.errors import UserError
from captioning.training.rewards import CiderReward
from tests.special import EOS, PAD, UNK

WORDS = ["ape", "bee", "cat", "dog", "elk"]
VOCABULARY = Vocabulary((*SPECIAL, *WORDS))
NAMES = {UNK: "unknown", EOS: "end"} | {len(SPECIAL) + index: word for index, word in enumerate(WORDS)}
LONGEST = 7

sentence = st.lists(st.sampled_from([*WORDS, "new"]), min_size=1, max_size=LONGEST + 1)
corpus = st.lists(st.lists(sentence, min_size=1, max_size=4), min_size=1, max_size=6)


def encoded(references: list[list[list[str]]]) -> EncodedCaptions:
    """Every second row of images.csv has captions, and those of an image are not side by side."""
    pairs = [(2 * row, words) for row, captions in enumerate(references) for words in captions]
    pairs = pairs[::2] + pairs[1::2]
    return EncodedCaptions.encode([words for _, words in pairs], [row for row, _ in pairs], VOCABULARY, LONGEST)


def said(ids: list[int]) -> str:
    return " ".join(NAMES[index] for index in ids)


def padded(captions: list[list[int]]) -> np.ndarray:
    tokens = np.full((len(captions), LONGEST + 3), PAD)
    for row, caption in enumerate(captions):
        tokens[row, : len(caption)] = caption
    return tokens


@given(references=corpus, data=st.data())
def test_it_is_cider_with_an_end_word(references: list[list[list[str]]], data: st.DataObject) -> None:
    """On all images of the corpus, with captions that were cut and captions that are nothing but an end."""
    captions = encoded(references)
    ids = st.lists(st.integers(len(SPECIAL), len(VOCABULARY) - 1), max_size=LONGEST)
    hypotheses = [[*data.draw(ids), *data.draw(st.sampled_from([[EOS], []]))] for _ in references]
    rows = 2 * np.arange(len(references))
    theirs = [
        [said(captions.caption(index)[1:].tolist()) for index in np.flatnonzero(captions.image == row)] for row in rows
    ]
    expected = score(dict(enumerate(theirs)), {image: said(ids) for image, ids in enumerate(hypotheses)})
    found = CiderReward(captions, VOCABULARY).score(rows, padded(hypotheses), np.arange(len(rows)))
    np.testing.assert_allclose(found, list(expected.per_image["cider"].values()), atol=1e-12)


@given(references=corpus.filter(lambda images: len(images) > 2), data=st.data())
def test_some_images_with_several_captions_have_the_values_of_each_alone(
    references: list[list[list[str]]], data: st.DataObject
) -> None:
    reward = CiderReward(encoded(references), VOCABULARY)
    rows = 2 * np.array(sorted(data.draw(st.sets(st.integers(0, len(references) - 1), min_size=1))))
    ids = st.lists(st.integers(len(SPECIAL), len(VOCABULARY) - 1), min_size=1, max_size=LONGEST)
    captions = data.draw(st.lists(ids, min_size=1, max_size=9))
    owner = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=len(captions), max_size=len(captions))))
    together = reward.score(rows, padded(captions), owner)
    alone = [
        reward.score(rows[place : place + 1], padded([caption]), np.array([0]))[0]
        for caption, place in zip(captions, owner, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-12)


TWO = [[["ape", "bee", "cat"]], [["dog", "elk", "dog", "bee"]]]


def test_an_end_is_worth_something_and_padding_nothing() -> None:
    reward = CiderReward(encoded(TWO), VOCABULARY)
    whole = [*VOCABULARY.encode(TWO[0][0]), EOS]
    tokens = padded([whole, whole[:-1]])
    scores = reward.score(np.array([0]), tokens, np.array([0, 0]))
    assert scores[0] == pytest.approx(10.0)  # it is the reference
    assert scores[1] < 0.9 * scores[0]
    longer = np.pad(tokens, ((0, 0), (0, 5)), constant_values=PAD)
    assert np.array_equal(reward.score(np.array([0]), longer, np.array([0, 0])), scores)


def test_ids_of_another_vocabulary_are_refused() -> None:
    reward = CiderReward(encoded(TWO), VOCABULARY)
    reward.check(Vocabulary(VOCABULARY.words))
    other = Vocabulary((*SPECIAL, *WORDS[::-1]))
    said = f"of another vocabulary (sha256 {VOCABULARY.sha256[:12]}) than the model's ({other.sha256[:12]})"
    with pytest.raises(UserError, match=re.escape(said)):
        reward.check(other)
    with pytest.raises(UserError, match=r"word id 8, but the vocabulary ends at 6: .*run `dvc repro split`"):
        CiderReward(encoded(TWO), Vocabulary((*SPECIAL, *WORDS[:3])))

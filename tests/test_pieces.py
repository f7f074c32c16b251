"""Word pieces: split as BERT splits, and glued so that every training caption comes back."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from captioning.data.datasets.scenes.composition import compose
from captioning.data.datasets.scenes.grammar import sentences
from captioning.data.text import coverage, wordpieces
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import SPECIAL, Pieces, Vocabulary
from captioning.search.base import Hypothesis
from captioning.search.consensus import by_consensus
from captioning.settings import text_models
from captioning.system.errors import UserError
from tests.properties import examples

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789$&'+-./#_~^`|<>中"
KNOWN = (*BERT, *LETTERS, *(f"##{letter}" for letter in LETTERS[:36]), "snow", "##board", "##er", "dog", "##s", "the")
HARD = [
    "A snowboarder's café, and 2,000 tri-colored dogs at 12:30!",
    "The U.S. rock 'n' roll dog doesn't -- can't -- o'clock (half-) 1/2 a_b #tag ##er",
    "dogs; the dog's dogs' Über naïve ½ fjord 中国 x.y.z e-mail@a.b www.dog.com !! ?!",
    "snow-board snow - board ´snow`board `snow` \u0130stanbul stra\u00dfe \u01c6 a\u0301b",
]
captions = st.one_of(
    st.sampled_from(HARD),
    st.text("abds -'.,:/&é中ß", max_size=30),
    st.lists(st.sampled_from(["snow", "boarder", "'s", "tri-", "-", ".", "dog", "U.S.", "é"]), max_size=8).map("".join),
    st.text(max_size=20),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a text model, as far as its pieces go."""
    made = tmp_path_factory.mktemp("text")
    (made / "vocab.txt").write_text("".join(f"{piece}\n" for piece in KNOWN), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def bert(folder: Path) -> BertWordPieceTokenizer:
    return BertWordPieceTokenizer(str(folder / "vocab.txt"))


@examples(300)
@given(caption=captions)
def test_a_word_is_split_as_berts_tokenizer_splits_it(bert: BertWordPieceTokenizer, caption: str) -> None:
    for word in tokenize(caption):
        theirs = bert.encode(word, add_special_tokens=False).tokens
        ours = wordpieces.spell(word, KNOWN)
        assert (ours is None) == ("[UNK]" in theirs or not theirs)
        assert ours is None or ours == theirs


@examples(300)
@given(training=st.lists(captions, min_size=1, max_size=5), learnt=st.booleans(), least=st.integers(1, 3))
def test_every_training_caption_comes_back(training: list[str], learnt: bool, least: int) -> None:
    """Whatever is in it, word by word, and so do captions whose words are in another order."""
    said = [tokenize(caption) for caption in training]
    pieces = coverage.pieces(said, None if learnt else frozenset(KNOWN), least)
    for words in (*said, [*chain.from_iterable(said)][::-1]):
        ids = pieces.encode(words)
        assert pieces.special.unk not in ids
        assert [word for word, _ in pieces.spans(ids)] == words
        assert sorted(place for _, places in pieces.spans(ids) for place in places) == list(range(len(ids)))


def test_only_what_training_captions_are_spelt_with_is_kept_commonest_first() -> None:
    said = [tokenize(caption) for caption in ("the dogs the snowboarder", "the dog's dog, a tri-dog")]
    pieces = Pieces.of(said, frozenset(KNOWN))
    assert pieces.words == (
        *("[PAD]", "[CLS]", "[SEP]", "[UNK]"),
        *("dog", "the", "##board", "##er", "##i", "##r", "##s", "'s", "-", "a", "snow", "t"),
    )
    assert pieces.ranks(np.array([4, 5, 15])).tolist() == [1, 2, 12]
    assert pieces.encode(["snows", "cat"]) == [14, 10, 3]


def test_endings_of_rare_words_are_learnt() -> None:
    said = [["walk"], ["walk"], ["walking"], ["talk"], ["talk"], ["talking"], ["ox"]]
    pieces = Pieces.count(said, 2)
    spelt = {word: [pieces.words[index] for index in pieces.encode([word])] for [word] in said}
    assert spelt == {"walk": ["walk"], "walking": ["walk", "##ing"], "talk": ["talk"]} | {
        "talking": ["talk", "##ing"],
        "ox": ["o", "##x"],
    }


@pytest.mark.parametrize("least", [1, 5, 1000])
def test_captions_of_scenes_come_back(least: int) -> None:
    said = [tokenize(sentence) for scene in compose(60, 1) for sentence in sentences(scene)]
    assert len(said) == 300
    pieces = Pieces.count(said, least)
    assert [pieces.decode(pieces.encode(words)) for words in said] == [" ".join(words) for words in said]


def test_a_file_is_of_pieces_or_of_words(tmp_path: Path) -> None:
    for vocabulary in (Pieces.of([["dogs"]], frozenset(KNOWN)), Vocabulary((*SPECIAL, "dog", "##s"))):
        vocabulary.write(tmp_path / "vocab.txt")
        again = Vocabulary.read(tmp_path / "vocab.txt")
        assert (type(again), again.words) == (type(vocabulary), vocabulary.words)
    assert again.begins(5, 4)
    pieces = Pieces((*Pieces.names, "dog", "##s"))
    assert not pieces.begins(5, 4)


def test_captions_are_cut_at_words_not_at_pieces() -> None:
    pieces = Pieces((*Pieces.names, "snow", "##board", "##er", "dog"))
    encoded = EncodedCaptions.encode([["snowboarder", "dog", "dog"], ["dog"]], [0, 1], pieces, 2)
    assert encoded.tokens.tolist() == [1, 4, 5, 6, 7, 1, 7, 2]


def test_consensus_counts_pieces_and_gives_whole_words() -> None:
    pieces = Pieces((*Pieces.names, "a", "dog", "##s", "snow", "##board"))
    said = ["a dog", "a dogs", "snowboard"]
    found = by_consensus([Hypothesis(tuple(pieces.encode(s.split())), -1.0, -1.0) for s in said], 0.0, pieces)
    best = max(found, key=lambda hypothesis: hypothesis.score)
    assert pieces.decode(best.ids) in said[:2]
    assert found[2].score == min(hypothesis.score for hypothesis in found)


def test_a_vocabulary_of_another_kind_is_refused(tmp_path: Path) -> None:
    for text, said in (("dog\ncat\n", r"no vocabulary of BERT's word pieces"), (None, "cannot be read")):
        if text:
            (tmp_path / "vocab.txt").write_text(text)
        else:
            (tmp_path / "vocab.txt").unlink()
        with pytest.raises(UserError, match=said):
            text_models.pieces(tmp_path)
    (tmp_path / "vocab.txt").write_text("\r\n".join((*BERT, "Dog", "")))
    with pytest.raises(UserError, match=r"'Dog' has a capital"):
        text_models.pieces(tmp_path)

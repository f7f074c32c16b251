"""Words against Stanford's tokeniser: stored outputs, and its Java program where there is one."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.text import tokenizer
from captioning.data.text.tokenizer import tokenize

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests/golden/ptb.json").read_text(encoding="utf-8"))
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Stanford's tokeniser needs Java")


def stanford(captions: list[str]) -> list[list[str]]:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = PTBTokenizer().tokenize({k: [{"caption": caption}] for k, caption in enumerate(captions)})
    return [lines[k][0].split() for k in range(len(captions))]


def test_words_are_stanfords() -> None:
    assert len(GOLDEN["equal"]) > 400
    assert [
        (caption, tokenize(caption)) for caption, words in GOLDEN["equal"] if tokenize(caption) != words.split()
    ] == []


def test_the_known_differences_are_all_that_differ() -> None:
    assert [caption for caption, words in GOLDEN["different"] if tokenize(caption) == words.split()] == []


@needs_java
def test_the_golden_file_is_what_java_says() -> None:
    pairs = GOLDEN["equal"] + GOLDEN["different"]
    assert stanford([caption for caption, _ in pairs]) == [words.split() for _, words in pairs]


@needs_java
def test_flickr8k_words_are_stanfords() -> None:
    data = Path(os.environ.get("CAPTIONING_TEST_DATA") or ROOT.parent / "shared/data")
    path = data / "flickr8k/Flickr8k_text.zip"
    if not path.exists():
        pytest.skip(f"no {path}: set CAPTIONING_TEST_DATA to the folder that has flickr8k/Flickr8k_text.zip")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("Flickr8k.token.txt").decode("utf-8").splitlines()
    captions = [line.split("\t")[1] for line in lines if line]
    pairs = zip(map(tokenize, captions), stanford(captions), strict=True)
    assert len(captions) == 40_460
    assert sum(ours == theirs for ours, theirs in pairs) >= 0.999 * len(captions)


def test_the_short_way_gives_what_the_long_way_gives() -> None:
    parts = ["cannot", "Gonna", "st", "etc", "no", "A", "b", "Miss", "dog", "T", "wan", "na", ""]
    pieces = {first + join + second for first in parts for join in ("", "-") for second in parts}
    pieces = {piece + ending for piece in pieces for ending in ("", ".", ",", "-", "'", "..", ".,")}
    assert {piece for piece in pieces if tokenizer._words(piece) != tokenizer._treebank(piece)} == set()


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Co"]), max_size=40))
def test_any_text_gives_words_without_spaces_capitals_or_punctuation(caption: str) -> None:
    for word in tokenize(caption):
        assert word.split() == [word]
        assert word not in tokenizer.PUNCTUATION
        assert word == word.lower()


@pytest.mark.parametrize("caption", ["A dog's (red) ball!", "He can't go to the U.S.", '"Hi," she said...', "wow!!"])
def test_words_joined_by_spaces_give_the_same_words(caption: str) -> None:
    words = tokenize(caption)
    assert words
    assert tokenize(" ".join(words)) == words


@pytest.mark.parametrize("caption", ["", " ", ".", "...", "-", '" "'])
def test_nothing_but_punctuation_has_no_words(caption: str) -> None:
    assert tokenize(caption) == []

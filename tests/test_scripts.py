"""Captions of the world's scripts: one spelling a word, letters as words where there are no spaces, and joined."""

import unicodedata

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from captioning.data.text.tokenizer import PUNCTUATION, tokenize
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.metrics.words import unknown_words
from captioning.system import scripts

UNSPACED = ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
LETTERS = "กขค้วัำเแาิ๓ລາວຳខ្មែរမြန်မာ一只狗々〇𠀀𠮷あがっーカﾊﾞaé3-'. 。、「」！・"


def letters(script: str) -> list[str]:
    every = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    found: list[str] = regex.findall(rf"[\p{{Script={script}}}&&[\p{{L}}\p{{N}}]]", "".join(every), regex.V1)
    return found


@pytest.mark.parametrize("script", UNSPACED)
def test_every_letter_of_a_script_without_spaces_is_a_word_of_its_own(script: str) -> None:
    extending = set(scripts._VOWELS)
    assert [f"{ord(letter):X}" for letter in letters(script) if not scripts.unspaced(letter)] == []
    known = [letter for letter in letters(script) if unicodedata.category(letter) != "Cn" and letter not in extending]
    wrong = [letter for letter in known if tokenize(f"a{letter}b") != ["a", *tokenize(letter), "b"]]
    assert (len(known) > 60, wrong) == (True, [])


def test_no_letter_of_a_script_with_spaces_is_unspaced() -> None:
    for script in (
        "Latin",
        "Greek",
        "Cyrillic",
        "Arabic",
        "Hebrew",
        "Devanagari",
        "Tamil",
        "Hangul",
        "Ethiopic",
        "Tibetan",
    ):
        assert [letter for letter in letters(script) if scripts.unspaced(letter)] == [], script


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("一只狗在草地上跑。", "一 只 狗 在 草 地 上 跑"),
        ("「犬」が、走る・ね！？", "犬 が 走 る ね"),
        ("iPhone手机，3只狗！", "iphone 手 机 3 只 狗"),
        ("𠮷野家𠀀", "𠮷 野 家 𠀀"),
        ("น้ำสีฟ้า", "น้ำ สี ฟ้ า"),
        ("ສະບາຍດີ", "ສ ະ ບ າ ຍ ດີ"),
        ("ខ្មែរ។", "ខ្ មែ រ"),
        ("မြန်မာ။", "မြ န် မာ"),
        ("ﾊﾞｶ｡", "ﾊﾞ ｶ"),
        ("한국어 개가", "한국어 개가"),
        ("كلب، قطة؟", "كلب قطة"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),
        ("ինչպե՞ս", "ինչպես"),
        ("כלב־ים ארה״ב", "כלב ים ארה״ב"),
        ("𞤀𞤁 🐕 𝐁", "𞤢𞤣"),
    ],
)
def test_words_of_a_language(caption: str, words: str) -> None:
    assert tokenize(caption) == words.split()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e\u0301"),
        ("が", "か\u3099"),
        ("Å", "\u212b"),
        ("한", "\u1112\u1161\u11ab"),
        ("ẖ", "H\u0331"),
        ("豈", "\uf900"),
    ],
)
def test_a_word_has_one_spelling(one: str, other: str) -> None:
    assert tokenize(f"a {one}x{one}") == tokenize(f"a {other}x{other}")


def test_nothing_that_nobody_sees_is_in_a_word() -> None:
    every = [chr(code) for code in range(0x110000) if scripts.unseen(chr(code))]
    assert [ascii(letter) for letter in every if tokenize(f"do{letter}g") != ["dog"]] == [ascii("\u200b")]
    assert [ascii(letter) for letter in every if tokenize(f"\ufeff狗{letter}狗") != ["狗", "狗"]] == []
    assert tokenize("do\u200bg") == ["do", "g"]


def test_joiners_marks_of_direction_and_the_like_are_unseen() -> None:
    for letter in "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202e\u2060\u2066\ufe0f\ufeff\U000e0101":
        assert scripts.unseen(letter), ascii(letter)


@given(st.text(max_size=40))
def test_any_text_gives_words_that_can_be_seen(caption: str) -> None:
    for word in tokenize(caption):
        assert word.split() == [word]
        assert word not in PUNCTUATION
        assert word == unicodedata.normalize("NFC", word)
        assert not [letter for letter in word if scripts.unseen(letter) or scripts.control(letter)]


@given(st.text(alphabet=LETTERS, max_size=20))
@example("、\u0e493")  # a mark on punctuation, which is no word
@example("½\u0e49\u0e01")
def test_a_joined_caption_has_the_same_words(caption: str) -> None:
    words = [word for word in tokenize(caption) if not word.isascii()]
    assert tokenize(scripts.join(words)) == words
    assert scripts.split(scripts.join(words)) == words


def any_script() -> st.SearchStrategy[str]:
    return st.text(alphabet=st.one_of(st.sampled_from(LETTERS), st.characters(codec="utf-8")), max_size=20)


@given(any_script())
def test_a_joined_caption_of_any_script_is_split_into_its_words(caption: str) -> None:
    words = tokenize(caption)
    assert scripts.split(scripts.join(words)) == words


@given(any_script())
def test_clusters_are_the_text(text: str) -> None:
    assert "".join(scripts.clusters(text)) == text
    assert scripts.set_apart(text).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    "caption", ["一只狗在草地上跑", "สุนัขวิ่งเล่นบนหญ้า", "a dog 狗 and 3 只猫", "개가 두 마리", "犬が 𠮷"]
)
def test_ids_become_a_caption_as_people_write_it(caption: str) -> None:
    words = tokenize(caption)
    vocabulary = Vocabulary((*SPECIAL, *sorted(set(words))))
    expected = "犬が𠮷" if caption == "犬が 𠮷" else caption
    ids = vocabulary.encode(words)
    assert vocabulary.decode(ids) == expected
    assert [word for word, _ in vocabulary.spans(ids)] == words


def test_english_is_joined_by_blanks() -> None:
    assert scripts.join(["a", "dog", "'s", "ball"]) == "a dog 's ball"
    assert scripts.join([]) == ""


def test_a_mark_without_its_letter_does_not_move_onto_another() -> None:
    assert scripts.join(["ก", "ั"]) == "ก ั"


def test_letters_that_no_reference_has_are_found() -> None:
    assert unknown_words(["一只狗。"], ["一只猫", "狗"]) == [[2], []]

"""A vocabulary without words stops the run, and one that lacks many words of its captions is reported."""

from pathlib import Path

import pytest

from captioning.data.text import coverage
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings.resolve import load
from captioning.system.errors import UserError
from captioning.system.sealed import write_table
from stages import vocab

DOGS = [caption.split() for caption in ("a dog runs", "a dog sleeps", "a cat runs")]


def warnings(captions: list[list[str]], min_count: int) -> list[str]:
    return coverage.unspaced(captions) + coverage.unknown(captions, Vocabulary.count(captions, min_count), min_count)


def test_a_vocabulary_without_words_is_refused_with_a_count_that_keeps_some() -> None:
    with pytest.raises(UserError) as refusal:
        coverage.count(DOGS, 5)
    assert str(refusal.value) == (
        "vocab.min_count = 5: none of the 5 different words of the 3 training captions occurs so often; the commonest "
        "occurs 3 times: lower vocab.min_count to 3 or less, and to 1 to keep every word"
    )
    assert coverage.count(DOGS, 3).words[4:] == ("a",)


def test_the_commonest_word_may_occur_once() -> None:
    with pytest.raises(
        UserError, match=r"the 2 different words of the 1 training.* occurs once: lower .* to 1 or less"
    ):
        coverage.count([["a", "dog"]], 2)


def test_captions_of_special_tokens_alone_are_refused() -> None:
    with pytest.raises(UserError, match="the 1 training captions have no words but <pad>"):
        coverage.count([["<unk>", "<eos>"]], 1)


@pytest.mark.parametrize(("known", "warned"), [(9, False), (8, True)])
def test_many_unknown_words_are_reported(known: int, warned: bool) -> None:
    captions = [["dog"] * known, ["cat"] * (10 - known)]
    lines = warnings(captions, 3)
    expected = ["20% of the words in training captions are <unk>, for they occur fewer than 3 times"] if warned else []
    assert [line.partition(";")[0] for line in lines] == expected


def test_captions_of_one_word_are_reported() -> None:
    [line] = warnings([["ᬓᬸᬓᬸᬃ"], ["ᬓᬸᬘᬶᬂ"]], 1)
    assert line.startswith("2 of the 2 training captions are one word each; words are split at spaces")
    assert warnings(DOGS, 1) == []


def run(folder: Path, captions: list[str], min_count: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stage on captions of its own; the first is also that of val and test."""
    rows = [*(("train", caption) for caption in captions), ("val", captions[0]), ("test", captions[0])]
    table = "".join(f"{k},{k}.jpg,{caption},{split}\n" for k, (split, caption) in enumerate(rows))
    write_table(folder / "captions.csv", f"image_id,file,caption,split\n{table}")
    monkeypatch.setattr(vocab, "CAPTIONS", folder / "captions.csv")
    monkeypatch.setattr(vocab, "OUT", folder / "vocab.txt")
    settings = load()
    vocab.main(settings.model_copy(update={"vocab": settings.vocab.model_copy(update={"min_count": min_count})}))
    return folder / "vocab.txt"


def test_the_stage_stops_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^vocab\.min_count = 5: "):
        run(tmp_path, ["A dog runs."] * 4, 5, monkeypatch)
    assert not (tmp_path / "vocab.txt").exists()


def test_captions_without_spaces_are_reported_before_the_stage_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError):
        run(tmp_path, ["ᬓᬸᬓᬸᬃ", "ᬓᬸᬘᬶᬂ"], 5, monkeypatch)
    assert capsys.readouterr().err.startswith("warning: 2 of the 2 training captions are one word each; ")


def test_the_stage_warns_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(tmp_path, ["A dog runs.", "A dog sleeps."], 2, monkeypatch)
    assert path.read_text().split()[4:] == ["a", "dog"]
    assert capsys.readouterr().err.startswith("warning: 33% of the words in training captions are <unk>, ")


def test_chinese_captions_have_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(tmp_path, ["一只狗在草地上跑。", "两个孩子在海边玩。"], 1, monkeypatch)
    assert len(path.read_text(encoding="utf-8").split()) == 4 + 15
    assert capsys.readouterr().err == ""

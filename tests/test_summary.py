"""The card of the data: its numbers by hand, and its plots against its numbers."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.card import summary
from captioning.data.splits import splits
from captioning.data.text.vocabulary import Vocabulary

ROWS = [
    ("a", "A dog runs.", "train"),
    ("a", "The dog is running!", "train"),
    ("b", "A dog.", "train"),
    ("c", "A cat sleeps again, again and again.", "val"),
    ("c", "...", "val"),
    ("d", "A zebra", "test"),
    ("d", "A dog", "test"),
    ("e", "?", "test"),
]


def counted(rows: list[tuple[str, str, str]]) -> dict[str, summary.Counts]:
    captions = pd.DataFrame(rows, columns=["image_id", "caption", "split"])
    return summary.count(captions, splits.assign(captions))


def vocabulary(counts: dict[str, summary.Counts], min_count: int) -> Vocabulary:
    return Vocabulary.count([counts["train"].words.elements()], min_count)


def plot(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.tsv", sep="\t")


def test_the_numbers_of_a_split() -> None:
    counts = counted(ROWS)
    assert summary.describe(counts["train"], vocabulary(counts, 1), 3) == {
        "images": 2,
        "images_without_words": 0,
        "captions": 3,
        "captions_without_words": 0,
        "captions_per_image": {"min": 1, "mean": 1.5, "max": 2},
        "words": 9,
        "words_per_caption": {"min": 2, "mean": 3.0, "max": 4, "p50": 3, "p95": 4, "p99": 4},
        "distinct_words": 6,
        "unknown": 0.0,
        "cut": pytest.approx(1 / 3),
    }


def test_words_that_training_does_not_have_are_unknown_and_wordless_captions_are_counted() -> None:
    counts = counted(ROWS)
    val = summary.describe(counts["val"], vocabulary(counts, 1), 30)
    test = summary.describe(counts["test"], vocabulary(counts, 2), 30)
    assert (val["unknown"], val["captions_without_words"], val["images_without_words"]) == (6 / 7, 1, 0)
    assert (test["unknown"], test["captions_without_words"], test["images_without_words"]) == (1 / 4, 1, 1)
    assert "(1 without a word are left out)" in summary.line("val", val)
    assert "85.71% of the words are <unk>" in summary.line("val", val)


captions = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=9).map(" ".join), min_size=1, max_size=9)


@given(captions, captions, captions)
def test_the_plots_are_of_the_numbers(
    tmp_path_factory: pytest.TempPathFactory, train: list[str], val: list[str], test: list[str]
) -> None:
    said = {"train": train, "val": val, "test": test}
    counts = counted([(f"{split}{i // 2}", text, split) for split in said for i, text in enumerate(said[split])])
    folder = tmp_path_factory.mktemp("plots")
    summary.write_plots(folder, counts)
    lengths, per_image, unknown = (plot(folder, name) for name in ("caption_length", "captions_per_image", "unknown"))
    for split, part in counts.items():
        card = summary.describe(part, vocabulary(counts, 3), 30)
        for table, value, mean in (
            (lengths, "words", "words_per_caption"),
            (per_image, "captions", "captions_per_image"),
        ):
            rows = table[table["split"] == split]
            assert rows["share"].sum() == pytest.approx(1, abs=1e-4)
            assert (rows[value] * rows["share"]).sum() == pytest.approx(card[mean]["mean"], abs=1e-4)
            assert (rows[value].diff().dropna() == 1).all()
        at_three = unknown[(unknown["split"] == split) & (unknown["min_count"] == 3)]["share"].item()
        assert at_three == pytest.approx(card["unknown"], abs=1e-6)

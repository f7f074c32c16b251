"""Vocabulary, splits and the COCO formats."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.splits import coco, splits
from captioning.data.splits.images import read_images
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Pieces, Vocabulary
from captioning.system.errors import UserError
from captioning.system.sealed import write_table
from tests.special import EOS, PAD, UNK

words = st.text(alphabet="abcdefgh'", min_size=1, max_size=6)
captions = st.lists(st.lists(words, max_size=8), max_size=20)


def table() -> pd.DataFrame:
    rows = [
        ("a", "z.zip/a.png", "A dog runs.", "train"),
        ("a", "z.zip/a.png", "The dog is running!", "train"),
        ("b", "z.zip/b.png", "A cat sleeps, again.", "val"),
        ("b", "z.zip/b.png", "...", "val"),
        ("c", "z.zip/c.png", "A zebra.", "test"),
    ]
    return pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"])


@given(captions, st.integers(1, 4))
def test_vocabulary_keeps_words_seen_at_least_min_count_times(said: list[list[str]], min_count: int) -> None:
    flat = [word for caption in said for word in caption]
    kept = set(Vocabulary.count(said, min_count).words[len(SPECIAL) :])
    assert kept == {word for word in flat if flat.count(word) >= min_count}


@given(captions)
def test_known_words_survive_encoding(said: list[list[str]]) -> None:
    vocabulary = Vocabulary.count(said, 1)
    for caption in said:
        assert vocabulary.decode([*vocabulary.encode(caption), EOS, PAD, UNK]) == " ".join(caption)


def test_vocabulary_file_round_trip_and_order(tmp_path: Path) -> None:
    vocabulary = Vocabulary.count([["b", "a", "a"], ["c", "b", "a"]], 1)
    assert vocabulary.words == (*SPECIAL, "a", "b", "c")
    vocabulary.write(tmp_path / "vocab.txt")
    assert (tmp_path / "vocab.txt").read_text() == "<pad>\n<bos>\n<eos>\n<unk>\na\nb\nc\n"
    again = Vocabulary.read(tmp_path / "vocab.txt")
    assert (again.words, again.sha256) == (vocabulary.words, vocabulary.sha256)
    assert again.encode(["a", "zebra"]) == [4, UNK]


def test_a_caption_cannot_say_a_special_word() -> None:
    vocabulary = Vocabulary.count([["<unk>", "dog", "<eos>"]], 1)
    assert vocabulary.words == (*SPECIAL, "dog")
    assert vocabulary.encode(["<eos>", "<pad>", "dog"]) == [UNK, UNK, 4]


@pytest.mark.parametrize("text", ["a\nb\n", "<pad>\n<bos>\n<eos>\n<unk>\na\na\n"])
def test_a_malformed_vocabulary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.txt").write_text(text)
    with pytest.raises(UserError, match=r"vocab\.txt: a vocabulary starts with"):
        Vocabulary.read(tmp_path / "vocab.txt")


def test_captions_without_words_are_left_out() -> None:
    assigned = splits.assign(table())
    assert assigned["words"].tolist()[:2] == [["a", "dog", "runs"], ["the", "dog", "is", "running"]]
    assert "..." not in assigned["caption"].tolist()


def test_a_split_without_words_is_refused() -> None:
    wordless = table().replace({"caption": {"A cat sleeps, again.": "!"}})
    with pytest.raises(UserError, match="no caption of the split 'val' has a word"):
        splits.assign(wordless)


def many(counts: dict[str, int]) -> pd.DataFrame:
    rows = [
        (f"{split}{index:04d}", f"z.zip/{split}{index}.png", f"A dog {caption}.", split)
        for split, count in counts.items()
        for index in range(count)
        for caption in range(3)
    ]
    return pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"])


@given(st.permutations(range(7)), st.integers(2, 12), st.integers(2, 12))
def test_a_limit_keeps_whole_images_and_those_of_a_lower_limit(order: list[int], limit: int, higher: int) -> None:
    """So many of each split, all where there are fewer; whichever others there are, and in whatever order."""
    captions = many({"train": 10, "val": 2, "test": 7})
    chosen = splits.assign(captions, limit)
    sizes = chosen.drop_duplicates("image_id")["split"].value_counts().to_dict()
    assert sizes == {"train": min(limit, 10), "val": 2, "test": min(limit, 7)}
    assert set(chosen["image_id"].value_counts()) == {3}
    assert chosen["caption"].tolist() == captions[captions["image_id"].isin(chosen["image_id"])]["caption"].tolist()
    if higher > limit:
        assert set(chosen["image_id"]) <= set(splits.assign(captions, higher)["image_id"])
    shuffled = captions.iloc[[row for part in order for row in range(part, len(captions), 7)]]
    assert set(splits.assign(shuffled, limit)["image_id"]) == set(chosen["image_id"])


def test_a_limit_takes_images_from_all_over_a_split() -> None:
    chosen = splits.choose(many({"train": 2000}), 500)["image_id"].str.removeprefix("train").astype(int)
    quarters = np.histogram(chosen.unique(), bins=4, range=(0, 2000))[0]
    assert quarters.sum() == 500
    assert (abs(quarters - 125) < 35).all()


def test_no_limit_is_every_image() -> None:
    assert splits.assign(table(), None).equals(splits.assign(table(), 3))


def test_only_training_words_are_counted_and_others_are_unknown(tmp_path: Path) -> None:
    assigned = splits.assign(table())
    vocabulary = Vocabulary.count(assigned[assigned["split"] == "train"]["words"], 1)
    splits.write(tmp_path, assigned, vocabulary, max_words=10)
    assert "cat" not in vocabulary.words
    val = EncodedCaptions.read(tmp_path / "val.npz")
    assert val.caption(0).tolist().count(UNK) == 3
    images = read_images(tmp_path / "images.csv")
    assert images.iloc[val.image]["image_id"].tolist() == ["b"]


def test_written_splits_are_the_same_bytes(tmp_path: Path) -> None:
    assigned = splits.assign(table())
    vocabulary = Vocabulary.count(assigned["words"], 1)
    for name in ("one", "two"):
        splits.write(tmp_path / name, assigned, vocabulary, max_words=10)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_coco_ids_are_the_numbers_of_the_images_where_they_have_numbers() -> None:
    named = splits.image_table(table())
    assert named["coco_id"].tolist() == [1, 2, 3]
    numbered = splits.image_table(table().replace({"image_id": {"a": "391895", "b": "17", "c": "5"}}))
    assert dict(zip(numbered["image_id"], numbered["coco_id"], strict=True)) == {"391895": 391895, "17": 17, "5": 5}
    zeros = splits.image_table(table().replace({"image_id": {"a": "007", "b": "7", "c": "5"}}))
    assert sorted(zeros["coco_id"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("image_id", "coco_id"),
    [
        (str(2**63 - 1), 2**63 - 1),
        *((name, 1) for name in ("20230912153045123456", "1" * 5000, "-1", "1.0", "+1", " 1")),
        *((name, 3) for name in ("\u0661", str(2**63))),
    ],
)
def test_a_number_of_more_than_64_bits_is_a_name(tmp_path: Path, image_id: str, coco_id: int) -> None:
    images = splits.image_table(table().replace({"image_id": {"a": image_id, "b": "7", "c": "9"}}))
    assert images.loc[images["image_id"] == image_id, "coco_id"].item() == coco_id
    write_table(tmp_path / "images.csv", images.to_csv(index=False))
    assert read_images(tmp_path / "images.csv").equals(images)


def test_images_are_ordered_by_split() -> None:
    assert splits.image_table(table().iloc[::-1])["split"].tolist() == ["train", "val", "test"]


def test_references_read_back_through_pycocotools(tmp_path: Path) -> None:
    assigned = splits.assign(table())
    splits.write(tmp_path, assigned, Vocabulary.count(assigned["words"], 1), max_words=10)
    references = coco.read_references(tmp_path / "references_val.json")
    assert references == {2: ["A cat sleeps, again."]}
    coco.write_results(tmp_path / "captions.json", {2: "a cat"}, tmp_path / "references_val.json")
    assert json.loads((tmp_path / "captions.json").read_text()) == [{"image_id": 2, "caption": "a cat"}]


def test_results_for_other_images_are_refused(tmp_path: Path) -> None:
    assigned = splits.assign(table())
    splits.write(tmp_path, assigned, Vocabulary.count(assigned["words"], 1), max_words=10)
    with pytest.raises(AssertionError):
        coco.write_results(tmp_path / "captions.json", {9: "a cat"}, tmp_path / "references_val.json")
    assert not (tmp_path / "captions.json").exists()


def test_broken_references_are_named(tmp_path: Path) -> None:
    path = tmp_path / "references.json"
    for text in ("{", "[]"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"references\.json.*; run `dvc repro -f split`"):
            coco.read_references(path)


def test_encoded_captions_round_trip(tmp_path: Path) -> None:
    vocabulary = Vocabulary.count([["a", "b"]], 1)
    encoded = EncodedCaptions.encode([["a"], ["b", "a"]], [3, 1], vocabulary, 5)
    encoded.write(tmp_path / "x.npz")
    again = EncodedCaptions.read(tmp_path / "x.npz")
    assert np.array_equal(again.tokens, encoded.tokens)
    assert again.lengths.tolist() == [3, 4]
    assert again.image.tolist() == [3, 1]


def test_pieces_are_joined_and_say_where_their_words_are() -> None:
    pieces, special = Pieces((*Pieces.names, "snow", "##board", "##er", "a")), Vocabulary.special
    ids = [special.bos, 7, 4, 5, 6, 4, special.eos, 7]
    assert pieces.decode(ids) == "a snowboarder snow"
    assert pieces.spans(ids) == [("a", [1]), ("snowboarder", [2, 3, 4]), ("snow", [5])]

"""Floor and human rows, and what a person reads of an evaluation."""

from pathlib import Path

import pandas as pd
import pytest

from captioning.evaluation import baselines, samples
from captioning.metrics import References, score

TRAINING = [caption.split() for caption in ("a dog runs", "a dog sleeps", "a dog runs", "two birds sing", "a cat runs")]
VALIDATION = {1: ["a dog runs", "the dog is running"], 2: ["a cat runs", "a cat is there"], 3: ["birds sing", "a bird"]}


def test_the_constant_caption_is_the_best_training_caption_on_validation() -> None:
    found = baselines.constant_caption(TRAINING, References(VALIDATION), list(VALIDATION))
    scores = {
        " ".join(words): score(VALIDATION, {name: " ".join(words) for name in VALIDATION}).corpus["cider"]
        for words in TRAINING
    }
    assert scores[found] == max(scores.values()) > min(scores.values())


def test_the_oracle_picks_the_best_of_each_list_and_one_caption_leaves_no_choice() -> None:
    said = {1: ["a bird", "a dog runs"], 2: ["a cat runs", "birds sing", "a dog"], 3: ["birds sing"]}
    best = {1: "a dog runs", 2: "a cat runs", 3: "birds sing"}
    first = {image: [captions[0]] for image, captions in said.items()}
    oracle = baselines.oracle_cider(VALIDATION, said)
    assert oracle == pytest.approx(score(VALIDATION, best).corpus["cider"])
    alone = baselines.oracle_cider(VALIDATION, first)
    assert alone == pytest.approx(
        score(VALIDATION, {image: found[0] for image, found in first.items()}).corpus["cider"]
    )
    assert alone < oracle


def test_human_scores_are_the_mean_over_people_left_out() -> None:
    references = {1: ["a dog runs", "a dog runs fast"], 2: ["a cat sleeps", "the cat sleeps", "extra"]}
    first = score({1: ["a dog runs fast"], 2: ["the cat sleeps", "extra"]}, {1: "a dog runs", 2: "a cat sleeps"}).corpus
    second = score(
        {1: ["a dog runs"], 2: ["a cat sleeps", "extra"]}, {1: "a dog runs fast", 2: "the cat sleeps"}
    ).corpus
    human = baselines.human_scores(references)
    assert human == {name: pytest.approx((first[name] + second[name]) / 2) for name in first}


def test_one_reference_has_no_human_row() -> None:
    assert baselines.human_scores({1: ["a dog"], 2: ["a", "b"]}) == {}


def table() -> pd.DataFrame:
    images = pd.DataFrame({"image_id": list("abcd"), "file": "x", "split": "test", "coco_id": [1, 2, 3, 4]})
    captions = {1: "a dog", 2: "a | b", 3: "a dog", 4: "two dogs run"}
    return samples.table(images, captions, {"cider": {1: 0.5, 2: 2.0, 3: 0.5, 4: 0.1}})


def test_best_and_worst_are_by_score_and_then_by_id() -> None:
    chosen = samples.choose(table(), 2)
    assert chosen["best"]["coco_id"].tolist() == [2, 1]
    assert chosen["worst"]["coco_id"].tolist() == [4, 3]
    assert len(chosen["random"]) == 2
    assert len(samples.choose(table(), 9)["random"]) == 4


def test_random_samples_are_the_same_for_every_model() -> None:
    ours = table()
    theirs = ours.assign(cider=ours["cider"][::-1].to_numpy(), hypothesis="other").sort_values("image_id")
    for count in (1, 2, 3):
        first, other = (samples.choose(scored, count)["random"]["image_id"].tolist() for scored in (ours, theirs))
        assert first == other
        assert len(first) == count


def test_samples_are_a_table_that_markdown_can_read() -> None:
    references = {name: ["one", "two\nlines"] for name in (1, 2, 3, 4)}
    text = samples.samples(samples.choose(table(), 1), references)
    assert "| b | 2.00 | a \\| b | one<br>two lines |" in text
    assert all(line.count(" | ") == 3 for line in text.splitlines() if line.startswith("| b"))


def test_plots_hold_means_by_length_and_every_image(tmp_path: Path) -> None:
    samples.plots(
        tmp_path / "plots", {"bleu_1": 0.5, "cider": 1.5}, table(), {1: ["A dog."], 2: ["Two dogs!", "a dog"]}
    )
    scores = pd.read_csv(tmp_path / "plots/scores.tsv", sep="\t")
    assert scores.to_dict("list") == {"score": ["BLEU-1", "CIDEr"], "value": [0.5, 1.5]}
    by_length = pd.read_csv(tmp_path / "plots/score_by_length.tsv", sep="\t")
    assert by_length["words"].tolist() == [2, 3]
    assert by_length["images"].tolist() == [2, 2]
    assert by_length["cider"].tolist() == pytest.approx([0.5, 1.05])
    by_image = pd.read_csv(tmp_path / "plots/score_by_image.tsv", sep="\t")
    assert by_image["cider"].tolist() == [2.0, 0.5, 0.5, 0.1]
    words = pd.read_csv(tmp_path / "plots/word_frequency.tsv", sep="\t")
    assert sorted(words.columns) == ["rank", "share", "who", "word"]
    assert words.loc[words["who"] == "references", "share"].tolist() == pytest.approx([2 / 6, 2 / 6, 1 / 6, 1 / 6])


def test_word_frequency_has_the_references_order_and_both_shares() -> None:
    found = samples.word_frequency(["a dog", "a dog a"], ["A dog runs.", "The dog", "dog"])
    assert found.to_dict("list") == {
        "rank": [1, 2, 3, 4] * 2,
        "word": ["dog", "a", "runs", "the"] * 2,
        "who": ["references"] * 4 + ["hypotheses"] * 4,
        "share": pytest.approx([3 / 6, 1 / 6, 1 / 6, 1 / 6, 2 / 5, 3 / 5, 0, 0]),
    }


def test_word_frequency_ends_at_the_hundredth_word_and_takes_empty_captions() -> None:
    found = samples.word_frequency(["", ""], [" ".join(f"word{i}" for i in range(150))])
    assert (len(found), found["rank"].max()) == (200, 100)
    assert found.loc[found["who"] == "hypotheses", "share"].sum() == 0


def test_the_score_table_leaves_out_what_nobody_has() -> None:
    text = samples.score_table(
        {"floor": {"bleu_1": 0.25, "cider": 0.5}, "model": {"bleu_1": 0.5, "cider": 1.0, "meteor": 0.2}}
    )
    header, floor, model = text.splitlines()
    assert header.split() == ["bleu_1", "meteor", "cider"]
    assert floor.split() == ["floor", "0.2500", "0.5000"]
    assert model.split() == ["model", "0.5000", "0.2000", "1.0000"]


def test_variety_counts_what_differs() -> None:
    """Eight words, six of them different; four pairs, of which "a dog" is there twice; "x" is a training caption."""
    captions = {1: "a dog", 2: "a dog", 3: "two dogs run", 4: "x"}
    assert samples.variety(captions, {"x", "a dog runs", "two dogs"}) == {
        "distinct_captions": 0.75,
        "words_per_caption": 2.0,
        "vocabulary_used": 6,
        "distinct_1": 6 / 8,
        "distinct_2": 3 / 4,
        "novel_captions": 3 / 4,
    }


def test_one_caption_for_all_has_the_least_variety_and_no_words_have_none() -> None:
    constant = samples.variety(dict.fromkeys(range(10), "a dog runs"), {"a dog runs"})
    assert (constant["distinct_1"], constant["distinct_2"], constant["novel_captions"]) == (3 / 30, 2 / 20, 0)
    stuck = samples.variety({1: "a a a a", 2: "b"}, set())
    assert (stuck["distinct_1"], stuck["distinct_2"], stuck["novel_captions"]) == (2 / 5, 1 / 3, 1)
    silent = samples.variety({1: "", 2: ""}, {"a dog"})
    assert (silent["vocabulary_used"], silent["distinct_1"], silent["distinct_2"]) == (0, 0, 0)


def test_captions_without_spaces_are_counted_by_their_letters() -> None:
    said = samples.variety({1: "一只狗", 2: "一只猫"}, {"一只狗"})
    assert (said["words_per_caption"], said["vocabulary_used"], said["novel_captions"]) == (3, 4, 0.5)
    frequency = samples.word_frequency(["一只狗"], ["一只狗。", "狗"])
    assert set(frequency["word"]) == set("一只狗")
    assert frequency[frequency["who"] == "hypotheses"]["share"].tolist() == pytest.approx([1 / 3] * 3)
    constant = baselines.constant_caption([list("一只狗"), list("两只猫")], References({1: ["一只狗"]}), [1])
    assert constant == "一只狗"

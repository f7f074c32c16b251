"""Scores against pycocoevalcap, nltk and plain arithmetic."""

import dataclasses
import importlib.util
import json
import logging
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate import bleu_score

from captioning import metrics
from captioning.metrics import References, Scores, elementary, java, rouge, score
from captioning.system.errors import UserError

NAMES = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"]
GOLDEN = Path(__file__).parent / "golden/scores.json"

words = st.sampled_from(["dog", "cat", "man", "runs", "sits", "red", "big", "the", "on", "grass"])
captions = st.lists(words, max_size=9).map(" ".join)
images = st.lists(st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=6)
Images = list[tuple[str, list[str]]]


def split(images: Images) -> tuple[dict[int, list[str]], dict[int, str]]:
    return {k: image[1] for k, image in enumerate(images)}, {k: image[0] for k, image in enumerate(images)}


def coco_caption(references: dict[int, list[str]], hypotheses: dict[int, str]) -> Scores[int]:
    """pycocoevalcap's own scores, of captions whose words are parted by single spaces."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    lists = {image: [caption] for image, caption in hypotheses.items()}
    bleu, bleus = Bleu(4).compute_score(references, lists, verbose=0)
    rouge_l, rouges = Rouge().compute_score(references, lists)
    cider, ciders = Cider().compute_score(references, lists)
    columns = zip(NAMES, [*bleus, rouges, ciders], strict=True)
    per_image = {name: dict(zip(references, map(float, values), strict=True)) for name, values in columns}
    return Scores(dict(zip(NAMES, map(float, [*bleu, rouge_l, cider]), strict=True)), per_image)


def assert_same(ours: Scores[int], theirs: Scores[int], tolerance: float = 1e-6) -> None:
    assert ours.corpus == pytest.approx(theirs.corpus, abs=tolerance)
    assert ours.per_image.keys() == theirs.per_image.keys()
    for name, values in theirs.per_image.items():
        assert ours.per_image[name] == pytest.approx(values, abs=tolerance), name


def noisy(seed: int, count: int) -> tuple[dict[int, list[str]], dict[int, str]]:
    """Captions that share many long n-grams: five shufflings of each image's sentence, and one more."""
    draw = random.Random(seed)
    vocabulary = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvw"]

    def variant(sentence: list[str]) -> str:
        return " ".join(draw.choice(vocabulary) if draw.random() < 0.2 else word for word in sentence)

    sentences = [draw.choices(vocabulary, k=draw.randint(5, 15)) for _ in range(count)]
    return {k: [variant(s) for _ in range(5)] for k, s in enumerate(sentences)}, dict(
        enumerate(map(variant, sentences))
    )


def test_public_vector() -> None:
    scores = score({1: ["this is a test", "this is also a test"]}, {1: "This is a good test."})
    expected = [0.799999, 0.632455, 0.510873, 9.036e-5, 0.907063, 0.0]
    assert [scores.corpus[name] for name in NAMES] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert [scores.per_image[name][1] for name in NAMES] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_golden_scores() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    scores = score(golden["references"], golden["hypotheses"])
    assert_same(scores, Scores(golden["corpus"], golden["per_image"]))
    assert list(scores.corpus) == list(scores.per_image) == NAMES


@given(images.filter(lambda images: any(caption for _, references in images for caption in references)))
def test_any_captions_score_as_in_coco_caption(images: Images) -> None:
    references, hypotheses = split(images)
    assert_same(score(references, hypotheses), coco_caption(references, hypotheses))


def test_many_captions_score_as_in_coco_caption() -> None:
    references, hypotheses = noisy(seed=1, count=60)
    assert_same(score(references, hypotheses), coco_caption(references, hypotheses))


def test_corpus_bleu_is_nltks() -> None:
    references, hypotheses = noisy(seed=2, count=40)
    lists = [[caption.split() for caption in references[k]] for k in references]
    for order in range(1, 5):
        theirs = bleu_score.corpus_bleu(lists, [hypotheses[k].split() for k in references], (1 / order,) * order)
        assert score(references, hypotheses).corpus[f"bleu_{order}"] == pytest.approx(theirs, abs=1e-6)


def test_captions_without_words_score_nothing() -> None:
    scores = score({1: ["a dog runs"], 2: ["a cat"]}, {1: "", 2: "..."})
    assert scores.corpus == pytest.approx(dict.fromkeys(NAMES, 0.0), abs=1e-12)
    assert score({1: ["."]}, {1: "a dog"}).corpus["cider"] == 0


@given(st.lists(st.lists(words, min_size=4, max_size=9).map(" ".join), min_size=1, max_size=5))
def test_a_reference_as_hypothesis_is_perfect(texts: list[str]) -> None:
    scores = score({k: ["a cat", text] for k, text in enumerate(texts)}, dict(enumerate(texts)))
    assert scores.corpus == pytest.approx(dict.fromkeys(NAMES[:5], 1.0) | {"cider": scores.corpus["cider"]})


def test_cider_of_the_only_reference_is_ten() -> None:
    texts = {1: "red dogs run over grass", 2: "some man sits near water"}
    assert score({k: [text] for k, text in texts.items()}, texts).corpus["cider"] == pytest.approx(10)


def test_cider_of_one_image_is_zero_and_words_of_all_images_weigh_nothing() -> None:
    assert score({1: ["a dog runs on grass"]}, {1: "a dog runs on grass"}).corpus["cider"] == 0
    assert score({1: ["a dog"], 2: ["a cat"]}, {1: "a", 2: "a"}).corpus["cider"] == 0


@given(images, st.randoms(use_true_random=False))
def test_order_does_not_matter(images: Images, draw: random.Random) -> None:
    references, hypotheses = split(images)
    order = draw.sample(list(references), len(references))
    shuffled = {k: draw.sample(references[k], len(references[k])) for k in order}
    assert_same(score(shuffled, hypotheses), score(references, hypotheses), 1e-12)


@given(images)
def test_scores_are_within_bounds(images: Images) -> None:
    scores = score(*split(images))
    for name in NAMES:
        most = (10 if name == "cider" else 1) + 1e-9
        assert all(0 <= value <= most for value in [scores.corpus[name], *scores.per_image[name].values()])


@given(st.lists(words, max_size=12), st.lists(words, max_size=12))
def test_longest_common_subsequence_is_the_tables(first: list[str], second: list[str]) -> None:
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else max(table[i][j + 1], table[i + 1][j])
    assert rouge.lcs_length(rouge.word_places(first), second) == table[-1][-1]


def test_references_are_reusable() -> None:
    references, hypotheses = noisy(seed=3, count=10)
    others = {k: references[k][0] for k in references}
    prepared = References(references)
    before = prepared.score(hypotheses)
    assert prepared.score(others) == score(references, others)
    assert prepared.score(hypotheses) == before


def test_ids_are_strings_as_well() -> None:
    references, hypotheses = noisy(seed=4, count=5)
    named = score({f"{k}.jpg": references[k] for k in references}, {f"{k}.jpg": hypotheses[k] for k in references})
    assert named.corpus == score(references, hypotheses).corpus
    assert list(named.per_image["cider"]) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]


def test_scores_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        score({1: ["a dog"]}, {1: "a dog"}).corpus = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ({}, {}, "no references"),
        ({7: []}, {7: "a dog"}, "image 7 .*list of at least one"),
        ({7: "a dog"}, {7: "a dog"}, "image 7 .*list of at least one"),
        ({7: ["a dog"]}, {}, "1 without a hypothesis, such as 7$"),
        (
            {}.fromkeys(range(9), ["a dog"]),
            {8: "", "x": ""},
            "8 without a hypothesis, such as 0, 1, 2; 1 .*such as 'x'",
        ),
    ],
)
def test_faults_are_named(references: dict[int, list[str]], hypotheses: dict[int, str], message: str) -> None:
    for scorer in (metrics.score, java._texts):
        with pytest.raises(UserError, match=message) as fault:
            scorer(references, hypotheses)
        assert "\n" not in str(fault.value)


@pytest.mark.skipif(not metrics.java_available(), reason="METEOR needs Java")
def test_meteor_public_vector() -> None:
    references = {"b": ["this is a test", "this is also a test"], "a": ["A dog runs.", "..."], "c": ["a cat"]}
    scores = metrics.meteor(references, {"a": "a dog runs", "b": "This is a good test.", "c": ""})
    assert scores.per_image == {"meteor": pytest.approx({"b": 0.444344, "a": 1.0, "c": 0.0}, abs=1e-6)}
    assert 0 < scores.corpus["meteor"] < 1


def fake_java(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "java"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_without_java_meteor_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not metrics.java_available()
    assert not metrics.spice_available()
    with pytest.raises(UserError, match="METEOR needs Java"):
        metrics.java_scores({1: ["a dog"]}, {1: "a dog"})


def test_without_pycocoevalcap_meteor_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_java(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="METEOR needs pycocoevalcap"):
        metrics.meteor({1: ["a dog"]}, {1: "a dog"})


@pytest.mark.parametrize("ending", ["exit 1", "read line; exit 1", "read line; echo 1; read line; echo oops"])
def test_what_java_said_when_it_failed_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str) -> None:
    fake_java(tmp_path, monkeypatch, f"echo 'no memory\nat all' >&2; {ending}")
    with pytest.raises(UserError, match=r"meteor-1\.5\.jar.* failed and said: no memory at all$"):
        metrics.meteor({1: ["a dog"]}, {1: "a dog"})


def test_without_corenlp_spice_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_java(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(java, "_spice_folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"SPICE needs Stanford CoreNLP: put stanford-corenlp-3\.6\.0\.jar and .* into"):
        metrics.spice({1: ["a dog"]}, {1: "a dog"})


class FakeSpice:
    """Gives every image the number of its references."""

    def compute_score(
        self, references: dict[int, list[str]], hypotheses: dict[int, list[str]]
    ) -> tuple[float, list[dict[str, dict[str, float]]]]:
        assert references.keys() == hypotheses.keys()
        return 0.5, [{"All": {"f": float(len(references[k]))}} for k in sorted(references)]


def test_java_scores_have_spice_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake_java(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(java, "_run_meteor", lambda *_: [0.1, 0.2, 0.3])
    monkeypatch.setattr(java, "_spice_folder", lambda: tmp_path)
    monkeypatch.setattr("pycocoevalcap.spice.spice.Spice", FakeSpice)
    references, hypotheses = {"b": ["a dog"], "a": ["a cat", "a cat"]}, {"a": "a cat", "b": "a dog"}
    with caplog.at_level(logging.WARNING):
        alone = metrics.java_scores(references, hypotheses)
    assert "SPICE is left out" in caplog.text
    assert alone == Scores({"meteor": 0.3}, {"meteor": {"b": 0.1, "a": 0.2}})
    for name in java._SPICE_JARS:
        (tmp_path / name).touch()
    both = metrics.java_scores(references, hypotheses)
    assert both == alone | Scores({"spice": 0.5}, {"spice": {"b": 1.0, "a": 2.0}})


def test_elementary_functions_are_the_c_librarys_on_every_processor() -> None:
    values = np.random.default_rng(0).uniform(0.1, 9, (40, 3))
    for found, function in (
        (elementary.log(values), math.log),
        (elementary.exp(values), math.exp),
        (elementary.root(values, 3), lambda value: math.pow(value, 1 / 3)),
    ):
        assert found.tolist() == [[function(value) for value in row] for row in values.tolist()]

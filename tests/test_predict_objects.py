"""What a person asks of a model that reads objects: other names, edited ones, captions that name them, and boxes."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from captioning import decoders
from captioning.captioner import model
from captioning.captioner.cards import Card
from captioning.cli.app import app
from captioning.data.objects.labels import Found, write_labels
from captioning.data.text.phrases import phrases
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.evaluation.objects.grounding import overlaps
from captioning.evaluation.objects.names import forms
from captioning.models import python
from captioning.models.required_objects import GENERAL, SAME, distinct, require
from captioning.settings.search import SearchOptions
from captioning.system.errors import UserError
from captioning.vision.encoders import encoders
from captioning.vision.images import Transform
from tests import variants
from tests.imports import ROOT
from tests.noise import noise

WORDS = ("a", "dog", "dogs", "cat", "ball", "balls", "kite", "boy", "tree", "runs", "traffic", "light", "with")
VOCABULARY = Vocabulary((*SPECIAL, *WORDS))
OBJECTS = [
    Found("dog", 0.9, (4.0, 8.0, 30.0, 40.0)),
    Found("boy", 0.8, (30.0, 2.0, 60.0, 40.0)),
    Found("ball", 0.7, (2.0, 30.0, 12.0, 40.0)),
    Found("kite", 0.6, (40.0, 0.0, 52.0, 9.0)),
    Found("cat", 0.5, (12.0, 20.0, 28.0, 44.0)),
]


def folder(path: Path, variant: str, kind: str | None = "labels") -> Path:
    """A model that reads objects of a table, drawn at random."""
    transform = Transform(32, None, "bilinear", (0.5,) * 3, (0.2,) * 3)
    network = encoders.build("resnet18", transform=transform, weights={}, seed=1)
    torch.manual_seed(1)
    name, options = variants.VARIANTS[variant][0], variants.options(variant)
    decoder = decoders.build(name, VOCABULARY, network.dim, options, boxed=kind is not None)
    origin: dict[str, Any] = {"objects": {"kind": kind, "source": "label.tsv"}} if kind else {}
    card = Card("resnet18", name, options, asdict(transform), {}, {"portable": True, "threads": 1}, origin, {})
    model.save(path, card, network.body.state_dict(), decoder.state_dict(), VOCABULARY)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two images, their table, and models."""
    path = tmp_path_factory.mktemp("objects")
    for seed, name in enumerate(("one", "two")):
        noise((64, 48), 60, seed).save(path / f"{name}.png")
    write_labels(path / "label.tsv", {"one": OBJECTS, "two": OBJECTS[:1]})
    folder(path / "oscar", "oscar")
    folder(path / "attention", "attention-soft")
    folder(path / "plain", "attention-soft", None)
    folder(path / "nameless", "oscar", "boxes")
    return path


class FixedObjects:
    """In place of a detector: it finds the same objects in each image."""

    def found(self, _image: Image.Image) -> list[Found]:
        return OBJECTS


def with_detector(path: Path) -> python.Model:
    """The model in a folder, which finds OBJECTS."""
    loaded = python.load(path)
    [member] = loaded.captioners.members
    captioners = replace(loaded.captioners, members=(replace(member, detector=FixedObjects()),))
    return python.TrainedModel(captioners, ["objects"])


Predict = Callable[..., Result]


@pytest.fixture
def predict(place: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """`captioning predict` of images in this folder, with its table if no other is named; by the oscar model."""
    monkeypatch.chdir(place)

    def run(*options: str, model: str = "oscar", labels: str | None = "label.tsv") -> Result:
        table = [] if labels is None else ["--labels", labels]
        return CliRunner().invoke(app, ["predict", "--model", model, "--max-words", "8", *table, *options])

    return run


def records(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, (done.output, done.exception)
    return [json.loads(line) for line in done.stdout.splitlines()]


SCORED = ("--objects", "--format", "jsonl", "--n-best", "2")


def test_listed_objects_come_back_as_they_were_and_an_edited_name_changes_the_caption(
    predict: Predict, place: Path
) -> None:
    done = predict("one.png", "two.png", *SCORED)
    before = records(done)
    assert [one["class"] for one in before[0]["objects"]] == [one.name for one in OBJECTS]
    (place / "edited.jsonl").write_text(done.stdout)
    assert records(predict("two.png", "one.png", *SCORED, labels="edited.jsonl")) == before[::-1]
    before[0]["objects"][0]["class"] = "cat"
    (place / "edited.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in before))
    after = records(predict("one.png", "two.png", *SCORED, labels="edited.jsonl"))
    assert after[0]["captions"][0]["log_probability"] != before[0]["captions"][0]["log_probability"]
    assert after[1] == before[1]
    del before[0]["objects"][1]["class"]
    (place / "edited.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in before))
    said = "edited.jsonl, line 1, 1 class: Field required"
    assert said in str(predict("one.png", labels="edited.jsonl").exception)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"file": "one.png"}\n', "line 1: not a file and its objects; write --objects --format jsonl again"),
        ("one.png\ta dog\n", "line 1: not a file and its objects"),
        ('{"file": "one.png", "objects": []}\n' * 2, "line 2: one.png is there twice"),
        ('{"file": "x/one.png", "objects": []}\n', "no row of one.png; the key is the image as it was named"),
    ],
)
def test_a_list_that_is_not_one_is_refused(predict: Predict, place: Path, text: str, said: str) -> None:
    (place / "wrong.jsonl").write_text(text)
    done = predict("one.png", labels="wrong.jsonl")
    assert done.exit_code == 1
    assert said in f"{done.output}{done.exception}"


def test_tags_are_read_in_place_of_the_names_and_regions_stay(predict: Predict) -> None:
    plain = records(predict("one.png", "two.png", *SCORED))
    same = records(predict("one.png", *SCORED, "--tags", "dog boy ball kite cat"))
    assert same == records(predict("one.png", *SCORED))
    other = records(predict("one.png", "two.png", *SCORED, "--tags", "Traffic light, kite"))
    none = records(predict("one.png", "two.png", *SCORED, "--tags", ""))
    found = [[row["captions"][0]["log_probability"] for row in rows] for rows in (plain, other, none)]
    assert all(len(set(column)) == 3 for column in zip(*found, strict=True))
    assert [row["objects"] for row in other] == [row["objects"] for row in plain]
    said = "--tags 'dgo kite': the model's vocabulary has no word 'dgo'; did you mean"
    assert said in str(predict("one.png", "--tags", "dgo kite").exception)


@pytest.mark.parametrize("option", [["--tags", "dog"], ["--must-objects"], ["--objects"], ["--boxes", "x"]])
def test_a_model_that_reads_no_objects_is_refused(predict: Predict, place: Path, option: list[str]) -> None:
    done = predict("one.png", *option, model="plain", labels=None)
    named = "names of objects" if option[0] == "--tags" else "objects"
    assert str(done.exception) == f"{option[0]}: this model reads no {named}; leave it out"
    assert not (place / "x").exists()


@pytest.mark.parametrize("model", ["attention", "nameless"])
def test_a_model_that_reads_no_names_is_refused_tags(predict: Predict, model: str) -> None:
    done = predict("one.png", "--tags", "dog", model=model)
    assert str(done.exception) == "--tags: this model reads no names of objects; leave it out"


def test_of_boxes_names_change_nothing(predict: Predict, place: Path) -> None:
    write_labels(place / "other.tsv", {"one": [one._replace(name="tree") for one in OBJECTS]})
    for name, same in (("nameless", True), ("oscar", False)):
        found = [
            [row["captions"] for row in records(predict("one.png", *SCORED, model=name, labels=labels))]
            for labels in ("label.tsv", "other.tsv")
        ]
        assert (found[0] == found[1]) is same


@pytest.mark.parametrize("name", ["oscar", "attention"])
def test_captions_name_two_of_the_three_surest_objects_or_the_only_one(predict: Predict, name: str) -> None:
    """The boy is not asked for."""
    rows = records(predict("one.png", "two.png", "--format", "jsonl", "--must-objects", "--n-best", "3", model=name))
    for row, asked, least in zip(rows, (["dog", "ball", "kite"], ["dog"]), (2, 1), strict=True):
        for caption in row["captions"]:
            words = caption["caption"].split()
            assert sum(any(form in words for form in forms(one)) for one in asked) >= least
    said = "--must-objects: only beam search can, and --method is sample; leave one out"
    assert str(predict("one.png", "--must-objects", "--method", "sample").exception) == said


def test_objects_are_asked_for_as_nocaps_does() -> None:
    options = SearchOptions(5, 20)

    def asked(found: list[Found]) -> tuple[list[list[str]], int]:
        made = require(options, found, VOCABULARY)
        return [[VOCABULARY.decode(ids) for ids in group] for group in made.some_of], made.least

    assert asked(OBJECTS) == ([["dog", "dogs"], ["ball", "balls"], ["kite"]], 2)
    assert asked([]) == ([], 0)
    assert asked([OBJECTS[1], Found("tree", 1.0, (0.0, 0.0, 9.0, 9.0))]) == ([], 0)
    light, zebra = Found("traffic light", 0.1, (0.0, 0.0, 2.0, 2.0)), Found("zebra", 1.0, (0.0, 0.0, 3.0, 3.0))
    assert asked([zebra, light]) == ([["traffic light"]], 1)  # no word zebra; no word lights
    again = OBJECTS[0]._replace(box=(0.0, 40.0, 9.0, 48.0))
    over = Found("cat", 0.85, (4.0, 8.0, 30.0, 41.0))  # where the dog is
    assert asked([OBJECTS[0], over, again]) == ([["dog", "dogs"]], 1)
    assert asked([OBJECTS[0], over._replace(score=0.95)]) == ([["cat"]], 1)
    assert require(options, OBJECTS, VOCABULARY).must == ()


def test_the_page_lists_the_general_names() -> None:
    page = (ROOT / "docs/objects.md").read_text(encoding="utf-8")
    listed = page.partition(f"and here there are {len(GENERAL)}. Of people:")[2].partition("\n  - ")[0]
    assert set(re.findall(r"\b[a-z]{2,}", listed)) == GENERAL


corner = st.tuples(*[st.integers(0, 6)] * 4)
boxes = corner.map(lambda c: (float(c[0]), float(c[1]), c[0] + c[2] + 1.0, c[1] + c[3] + 1.0))
some = st.lists(st.builds(Found, st.sampled_from(["dog", "cat", "boy", "kite"]), st.floats(0, 1), boxes), max_size=7)


@given(found=some)
def test_every_object_is_asked_for_or_general_or_at_the_place_of_a_surer_one(found: list[Found]) -> None:
    kept = list(distinct(found))
    assert [one.score for one in kept] == sorted((one.score for one in kept), reverse=True)
    for one in found:
        there = [other for other in kept if overlaps(np.array([one.box]), np.array([other.box]))[0, 0] >= SAME]
        surer = any(other.score >= one.score for other in there)
        assert surer or one.name in GENERAL
        assert not (one in kept and one.name in GENERAL)
        assert one not in kept or len(there) == 1


def test_attention_is_drawn_on_the_objects_of_each_image(predict: Predict, place: Path) -> None:
    """Of any model that reads objects; of a batch, and of an image alone."""
    for name in ("oscar", "attention"):
        rows = records(predict("one.png", "two.png", "--format", "jsonl", "--attention", name, model=name))
        drawn = [(place / row["attention"]).read_bytes() for row in rows]
        records(predict("two.png", "--format", "jsonl", "--attention", f"{name}-alone", model=name))
        assert (place / f"{name}-alone/two-attention.png").read_bytes() == drawn[1] != drawn[0]
        with Image.open(place / rows[0]["attention"]) as sheet:
            assert sheet.width > 240


def test_from_python_attention_has_the_boxes_of_its_regions(place: Path) -> None:
    loaded = python.of_folders([place / "oscar"], ["x"])
    images = [python.Read(Image.open(place / name).convert("RGB"), 1) for name in ("one.png", "two.png")]
    found = loaded.batch_of_objects(images, [OBJECTS, OBJECTS[:1]], loaded.options(max_words=4))
    for captioned, count in zip(found, (5, 1), strict=True):
        looked = captioned.captions[0].attended
        assert looked is not None
        assert looked.boxes is not None
        assert looked.weights.shape == (len(looked.words), 1 + count)
        np.testing.assert_allclose(looked.weights.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(looked.boxes[:2], [[0, 0, 1, 1], [4 / 64, 8 / 48, 30 / 64, 40 / 48]], atol=1e-6)


def test_a_word_that_the_vocabulary_lacks_names_the_option() -> None:
    with pytest.raises(UserError, match=r"--tags 'doge': the model's vocabulary has no word 'doge'"):
        phrases(VOCABULARY, ["doge"], "--tags")

"""What captions name, whether it is in the image, and whether the decoder looked at it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioning import decoders
from captioning.data.datasets.scenes import composition, dataset, grammar
from captioning.data.datasets.scenes.drawing import objects
from captioning.data.objects import tables
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found
from captioning.data.splits import splits
from captioning.data.text.tokenizer import tokenize
from captioning.evaluation.attending import Attended, attend, attend_all
from captioning.evaluation.objects import coco_names, grounding, hallucination, known, names
from captioning.evaluation.objects.grounding import Grounding, overlaps
from captioning.evaluation.objects.hallucination import Hallucination
from captioning.evaluation.objects.known import Known
from captioning.evaluation.objects.names import forms, mentions
from captioning.system.archives import write_zip
from captioning.vision.images import Transform
from tests import variants
from tests.test_attention_maps import captioner
from tests.test_attention_maps import encoded as grid_of

SCENES, COCO = names.of("scenes"), names.of("coco2017")
DOG, CAT, DOG_BOX = (0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0), (0.0, 0.05, 0.5, 0.5)


def named(caption: str, table: names.Names | None) -> list[set[str]]:
    assert table is not None
    return [set(one.kinds) for one in mentions(tokenize(caption), table)]


@pytest.mark.parametrize(
    ("caption", "kinds"),
    [
        ("A little boy in a red shirt is flying a blue kite.", [{"boy"}, {"kite"}]),
        ("two children are on the beach", [{"boy", "girl"}]),
        ("a kid and a puppy", [{"boy", "girl"}, {"dog"}]),
        ("there is a tall palm tree behind a bunny", [{"palm"}, {"rabbit"}]),
        ("there is a tree", [{"tree", "pine"}]),
        ("a boat with a white sail and a house with a red roof", [{"boat"}, {"house"}]),
        ("two birds and two sheep on park benches", [{"bird"}, {"sheep"}, {"bench"}]),
        ("it is raining in the park", []),
    ],
)
def test_names_of_scenes_are_those_of_the_grammar(caption: str, kinds: list[set[str]]) -> None:
    assert named(caption, SCENES) == kinds


@pytest.mark.parametrize(
    ("caption", "kinds"),
    [
        ("a man eats a hot dog on a train track", [{"person"}, {"hot dog"}]),
        ("people ride bikes past buses", [{"person"}, {"bicycle", "motorcycle"}, {"bus"}]),
        ("an orange cat with oranges and two teddy bears", [{"cat"}, {"orange"}, {"teddy bear"}]),
        ("a baby elephant beside a baby", [{"elephant"}, {"person"}]),
        ("knives, wine glasses and couches", [{"knife"}, {"wine glass"}, {"couch"}]),
        ("a bow tie and a tie", [{"tie"}]),
    ],
)
def test_names_of_coco_are_longest_first_and_compounds_are_none(caption: str, kinds: list[set[str]]) -> None:
    assert named(caption, COCO) == kinds


def test_tables_have_all_kinds_and_other_data_sets_have_none() -> None:
    assert SCENES is not None
    assert COCO is not None
    assert len(frozenset().union(*SCENES.values())) == 23
    assert len(frozenset().union(*COCO.values())) == 80
    assert set(coco_names.NAMES) <= frozenset().union(*COCO.values())
    assert names.of("flickr8k") is None
    assert forms("traffic light") == ("traffic light", "traffic lights")
    assert forms("scissors") == ("scissors",)
    assert [names.plural(word) for word in ("city", "toy", "fireman", "church", "mouse")] == [
        *("cities", "toys", "firemen", "churches", "mice")
    ]


def test_sentences_of_scenes_name_what_is_drawn_and_nothing_else() -> None:
    """So the human row of scenes has no hallucinations, and none of the grammar's names is missed."""
    assert SCENES is not None
    seen: set[frozenset[str]] = set()
    for scene in composition.compose(300, 3):
        there = {one.name for one in objects(scene, 96)}
        for sentence in grammar.sentences(scene):
            found = mentions(tokenize(sentence), SCENES)
            assert all(one.kinds & there for one in found), sentence
            assert found or sentence.startswith(("The", "It")), sentence
            seen |= {one.kinds for one in found}
    assert frozenset().union(*seen) == frozenset().union(*SCENES.values())


def test_hallucinations_are_counted_by_mention_and_by_caption() -> None:
    assert SCENES is not None
    captions = {1: "A dog and a puppy are running.", 2: "a kid is next to a cat and a dog", 3: "it is raining"}
    found = hallucination.score(captions, {1: {"cat"}, 2: {"girl", "cat"}, 3: set()}, SCENES)
    assert found == Hallucination(captions=3, with_absent=2, mentions=5, absent=3)
    assert found.record() == {"chair_i": 3 / 5, "chair_s": 2 / 3, "mentions": 5}
    assert hallucination.score({1: "rain"}, {1: set()}, SCENES).record()["chair_i"] is None


def test_people_add_to_what_coco_says_but_not_to_what_a_scene_is() -> None:
    assert COCO is not None
    table = {7: Truth([Found("dog", 1.0, DOG)], [Found("person", 1.0, CAT)])}
    for exact, share in ((False, 0), (True, 1 / 2)):
        there = Known(COCO, table, {7: (8, 8)}, exact)
        rows = known.hallucinations(
            there, {7: "a man and a dog with a frisbee and a ball"}, {7: ["a dog, a frisbee and a ball"]}, "a cat"
        )
        assert rows["model"].record()["chair_i"] == share
        assert (rows["floor"].absent, rows["human"].absent) == (1, 2)  # nobody else says so of this one
    assert "1.000" in known.table(rows, Grounding(4, 3, 1.0))
    assert "0.750 of 4" in known.table(rows, Grounding(4, 3, 1.0))
    assert "looked" not in known.table(rows, None)


def looked(words: str, regions: Sequence[int], boxes: Sequence[Sequence[float]]) -> Attended:
    """Each word looks at one region."""
    return Attended((*words.split(), "<eos>"), np.eye(len(boxes))[[*regions, 0]], np.array(boxes))


def test_a_noun_is_grounded_where_its_region_is_an_object_of_its_kind() -> None:
    """A dog, its box and one that covers it; a cat without a box; two nouns of what is not there."""
    assert SCENES is not None
    boxes = [(0.0, 0.0, 1.0, 1.0), DOG_BOX, CAT, (0.0, 0.0, 0.4, 0.2)]
    objects = [Found("dog", 1.0, DOG), Found("cat", 1.0, (0.0, 0.5, 0.3, 0.6))]
    words = "a dog and a puppy near a cat and a boy with a kite"
    regions = dict.fromkeys(range(len(words.split())), 0) | {1: 1, 4: 2, 7: 2}
    one = looked(words, list(regions.values()), boxes)
    assert grounding.score([(one, objects)], SCENES) == Grounding(nouns=3, found=1, drawn=0.5)
    other = looked("a dog", [1, 0], boxes)  # the whole image
    assert grounding.score([(one, objects), (other, objects)], SCENES) == Grounding(4, 1, 0.75)
    record = grounding.score([(one, objects)], SCENES).record()
    assert record == {"share": pytest.approx(1 / 3), "random_region": pytest.approx(0.5 / 3), "nouns": 3}
    assert grounding.score([], SCENES).record() == {"share": None, "random_region": None, "nouns": 0}


def test_the_whole_image_is_a_miss_even_where_an_object_fills_it() -> None:
    assert SCENES is not None
    whole = (0.0, 0.0, 1.0, 1.0)
    one = looked("a dog", [0, 0], [whole, (0.0, 0.0, 0.9, 0.9)])
    assert grounding.score([(one, [Found("dog", 1.0, whole)])], SCENES) == Grounding(1, 0, 0.5)
    one = looked("a dog", [0, 1], [whole, (0.0, 0.0, 0.9, 0.9)])
    assert grounding.score([(one, [Found("dog", 1.0, whole)])], SCENES) == Grounding(1, 1, 0.5)


corner = st.tuples(*[st.integers(0, 9)] * 4).map(lambda c: (c[0], c[1], c[0] + c[2] + 1, c[1] + c[3] + 1))


@given(first=corner, second=corner)
def test_overlap_is_that_of_the_pixels(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    pixels = np.zeros((2, 20, 20), bool)
    for own, (left, top, right, bottom) in zip(pixels, (first, second), strict=True):
        own[top:bottom, left:right] = True
    [[found]] = overlaps(np.array([first]), np.array([second]))
    assert found == pytest.approx((pixels[0] & pixels[1]).sum() / (pixels[0] | pixels[1]).sum())


def test_true_boxes_are_those_that_the_encoder_sees() -> None:
    assert SCENES is not None
    truth = Truth([Found("dog", 1.0, (50.0, 0.0, 100.0, 50.0)), Found("cat", 1.0, (0.0, 0.0, 40.0, 9.0))], [])
    there = Known(SCENES, {7: truth}, {7: (200, 100)}, exact=True)
    centre = Transform(64, 64, "bilinear", (0.5,) * 3, (0.5,) * 3)  # the middle square: 50 to 150
    assert there.boxed(7, centre) == [Found("dog", 1.0, (0.0, 0.0, 0.5, 0.5))]


def test_what_a_data_set_says_is_read_where_the_model_reads_objects(tmp_path: Path) -> None:
    data, folder = tmp_path / "download", tmp_path / "objects"
    data.mkdir()
    folder.mkdir()
    images = splits.image_table(dataset.write(data, train=2, val=1, test=2, size=48, seed=1))
    ids = dict(zip(images["image_id"], images["coco_id"], strict=True))
    tables.write_none(folder)
    assert known.read("scenes", data, folder, images) is None
    sizes = dict.fromkeys(ids, (48, 48))
    tables.write(folder, {name: [] for name in ids}, sizes, {"kind": "labels", "source": {"name": "label.tsv"}})
    there = known.read("scenes", data, folder, images)
    assert there is not None
    assert (there.names, there.exact) == (SCENES, True)
    for name, scene in zip(sorted(ids), composition.compose(5, 1), strict=True):
        assert there.present(ids[name], ["a dragon and a bench"]) == {one.name for one in objects(scene, 48)}
    assert known.read("flickr8k", data, folder, images) is None
    assert known.read("coco2017", data, folder, images) is None  # its archive is not there
    coco: dict[str, Any] = {"images": [{"id": 1, "width": 48, "height": 48}], "annotations": [], "categories": []}
    write_zip(data / "annotations_trainval2017.zip", {"instances_val2017.json": json.dumps(coco).encode()}.items())
    one = images[:1].assign(image_id="1")
    tables.write(folder, {"1": []}, {"1": (48, 48)}, {"kind": "labels", "source": {"name": "label.tsv"}})
    there = known.read("coco2017", data, folder, one)
    assert there is not None
    assert (there.names, there.exact, there.present(ids[images["image_id"][0]], ["a dog"])) == (COCO, False, {"dog"})


def test_attention_of_a_batch_is_that_of_each_image_at_its_own_regions() -> None:
    model = captioner()
    decoder = decoders.build(
        "attention", model.vocabulary, model.encoder.dim, variants.options("attention-soft"), boxed=True
    )
    model = replace(model, decoder=decoder.eval())
    whole = grid_of(model, 2)
    assert whole.regions is not None
    mask = torch.tensor([[True] * 3, [True, True, False]])
    boxes = torch.rand(2, 3, 4)
    batch: Any = whole._replace(regions=whole.regions[:, :3], mask=mask, boxes=boxes)
    together = attend_all(model, batch, ["a dog runs", "two birds"])
    for image, caption in enumerate(("a dog runs", "two birds")):
        alone = attend(model, batch.rows([image]), caption)
        assert alone.words == together[image].words == (*caption.split(), "<eos>")
        np.testing.assert_allclose(alone.weights, together[image].weights, atol=1e-6)
        np.testing.assert_allclose(alone.weights.sum(1), 1, atol=1e-5)
        np.testing.assert_array_equal(together[image].boxes, boxes[image, mask[image]])

"""facts.jsonl: the scenes come back exactly as they were drawn, and a damaged file names its line."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from captioning import metrics
from captioning.data.datasets.scenes import dataset, facts
from captioning.data.datasets.scenes.composition import Actor, Scene, compose, spots, thing_x
from captioning.data.splits import coco
from captioning.system.errors import UserError
from captioning.system.sealed import write_document, write_table
from stages import train

SCENES = {f"{number:06d}": scene for number, scene in enumerate(compose(200, 3), start=1)}
SCENE = Scene(
    "7/7", "park", "sunny", (Actor("boy", "green", "running"), Actor("girl", "red", "holding", "blue", hat=True)),
    "tree", "left",
)  # fmt: skip


def test_facts_give_back_the_scenes(tmp_path: Path) -> None:
    facts.write_facts(tmp_path / facts.FILE, SCENES)
    assert facts.read_facts(tmp_path / facts.FILE) == SCENES


def test_facts_have_positions(tmp_path: Path) -> None:
    facts.write_facts(tmp_path / facts.FILE, SCENES)
    seats = set()
    for line in (tmp_path / facts.FILE).read_text().splitlines():
        record = json.loads(line)
        scene = SCENES[record["image_id"]]
        assert [actor["x"] for actor in record["actors"]] == pytest.approx([s.x for s in spots(scene)], abs=1e-3)
        assert record["thing_x"] == (None if scene.thing is None else pytest.approx(thing_x(scene), abs=1e-3))
        assert record["seat"] == scene.seat
        seats.add(record["seat"])
    assert len(seats) > 1


def test_the_data_set_writes_the_facts_of_its_images(tmp_path: Path) -> None:
    table = dataset.write(tmp_path, train=4, val=2, test=2, size=40, seed=5)
    scenes = facts.read_facts(tmp_path / facts.FILE)
    assert list(scenes) == table["image_id"].drop_duplicates().tolist()
    assert list(scenes.values()) == compose(8, 5)
    for image_id, captions in table.groupby("image_id")["caption"]:
        assert captions.tolist() == dataset.sentences(scenes[str(image_id)])


def test_scenes_of_images_are_found_by_their_coco_ids(tmp_path: Path) -> None:
    facts.write_facts(tmp_path / facts.FILE, SCENES)
    images = pd.DataFrame({"image_id": ["000007", "000002"], "coco_id": [31, 5]})
    assert facts.of_images(tmp_path / facts.FILE, images) == {31: SCENES["000007"], 5: SCENES["000002"]}
    assert facts.of_images(tmp_path / "none.jsonl", images) == {}
    images.loc[1, "image_id"] = "900000"
    with pytest.raises(UserError, match=r"facts.jsonl: no facts of image 900000; run `dvc repro -f download`"):
        facts.of_images(tmp_path / facts.FILE, images)


def test_validation_of_a_training_knows_what_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "DATA", tmp_path)
    monkeypatch.setattr(train, "SPLIT", tmp_path)
    images = pd.DataFrame({"image_id": list(SCENES)[:3], "file": "a.jpg", "coco_id": [3, 1, 2], "split": "val"})
    sentences = [(name, sentence) for name in images["image_id"] for sentence in dataset.sentences(SCENES[name])]
    table = pd.DataFrame(sentences, columns=["image_id", "caption"]).assign(split="val")
    write_document(tmp_path / "references_val.json", coco.references(table, images, "val"))
    said = coco.read_references(tmp_path / "references_val.json")
    captions = {3: said[3][0], 1: said[1][0], 2: "a cow is flying in the desert"}
    plain = metrics.score(said, captions).corpus
    assert train._scores(images)(captions) == plain
    facts.write_facts(tmp_path / facts.FILE, SCENES)
    assert train._scores(images)(captions) == plain | {"true_captions": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line.replace('"place"', '"where"'),
        lambda line: line.replace('"kind"', '"who"'),
        lambda line: f"[{line}]",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, change: Callable[[str], str]) -> None:
    facts.write_facts(tmp_path / facts.FILE, SCENES)
    lines = (tmp_path / facts.FILE).read_text().splitlines()
    lines[6] = change(lines[6])
    write_table(tmp_path / facts.FILE, "\n".join(lines))
    with pytest.raises(UserError, match=r"facts\.jsonl, line 7: not the facts of an image"):
        facts.read_facts(tmp_path / facts.FILE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"facts\.jsonl: no such file; run `dvc repro -f download`"):
        facts.read_facts(tmp_path / facts.FILE)


def test_labels_of_a_scene() -> None:
    expected = """boy boy:green boy:running boy:green:running girl girl:red girl:holding girl:red:holding girl:hat
        balloon balloon:blue boy>left-of>girl two:child tree tree:left weather:sunny place:park"""
    assert facts.labels(SCENE) == frozenset(expected.split())


def test_labels_of_two_boys_and_of_nothing_behind() -> None:
    boys = Scene("1/1", "beach", "night", (SCENE.actors[0], Actor("boy", "red", "waving")), None, "left")
    assert {"two:boy", "two:child", "boy>left-of>boy"} <= facts.labels(boys)
    alone = Scene("1/1", "beach", "night", (Actor("bird", "blue", "flying"),), None, "left")
    expected = ["bird", "bird:blue", "bird:flying", "bird:blue:flying", "weather:night", "place:beach"]
    assert facts.labels(alone) == frozenset(expected)

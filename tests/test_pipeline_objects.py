"""Objects through the pipeline, from archives to scores and to a caption of one's own image, as a user would."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.data.objects.labels import read_labels
from captioning.evaluation import object_boxes
from captioning.system.archives import ImageArchives
from captioning.system.sealed import write_document
from tests.project import OWN, Project

FILES = ("detector.json", "detector.safetensors")
WANTED = ("-S", "objects=labels", "-S", "decoder=attention", "-S", "train.epochs=1")


def image(copy: Project, folder: Path) -> Path:
    """An image of the test split, under its id."""
    name = json.loads(copy.read("data/features/index.json"))["ids"][-1]
    with ImageArchives(copy.folder / "data/download") as files:
        (folder / f"{name}.png").write_bytes(files.read(f"scenes.zip/scenes/{name}.png"))
    return folder / f"{name}.png"


def test_a_frozen_encoder_stores_vectors_of_objects_and_captions_need_a_table(copy: Project, tmp_path: Path) -> None:
    before = copy.read("data/features/index.json")
    assert json.loads(copy.read("data/objects/objects.json"))["kind"] == "none"
    copy.run("dvc", "exp", "run", *WANTED, "-S", "features.trainable=false", "-S", "features.mirror=true")
    index = json.loads(copy.read("data/features/index.json"))
    labels = read_labels(copy.folder / "data/objects/label.tsv")
    assert index != json.loads(before)
    assert list(labels) == index["ids"]
    shapes = {tuple(array["shape"][1:]) for array in index["arrays"]["regions"].values()}
    assert shapes == {(1 + max(map(len, labels.values())), index_width(index))}
    card = json.loads(copy.read("data/train/model/model.json"))
    assert card["settings"]["objects"] == "labels"
    assert card["provenance"]["objects"] == {"kind": "labels", "source": "facts of the drawing"}
    assert "cider" in json.loads(copy.read("data/evaluate/metrics.json"))
    _what_is_known_of_objects_is_scored_and_drawn(copy)
    _captions_need_a_table(copy, tmp_path)


def _what_is_known_of_objects_is_scored_and_drawn(copy: Project) -> None:
    rows = json.loads(copy.read("data/evaluate/truth.json"))
    assert rows.keys() == {"floor", "model", "human"}
    assert all(row["hallucination"]["mentions"] or row is rows["model"] for row in rows.values())
    assert rows["human"]["hallucination"]["chair_i"] == rows["human"]["hallucination"]["chair_s"] == 0
    assert [name for name, row in rows.items() if "grounding" in row] == ["model"]
    found = rows["model"]["grounding"]
    assert found["nouns"] <= rows["model"]["hallucination"]["mentions"]
    assert not found["nouns"] or (0 <= found["share"] <= 1 and 0 < found["random_region"] < 1)
    gallery = np.asarray(Image.open(copy.folder / "data/evaluate/gallery/test.png").convert("RGB"))
    assert (gallery == object_boxes._UNSAID).all(axis=2).sum() > 1000
    index = json.loads(copy.read("data/evaluate/attention/index.json"))
    assert (index["refusal"], index["grid"]) == (None, None)
    assert len(index["pictures"]) == 18
    table = read_labels(copy.folder / "data/objects/label.tsv")
    for picture in index["pictures"]:
        left, top, right, bottom = table[picture["image_id"]][0].box
        corners = (round(side / 64, 4) for side in (left, top, right, bottom))
        assert picture["boxes"][:2] == [[0, 0, 1, 1], pytest.approx(list(corners), abs=1e-4)]


def test_a_detector_is_trained_and_finds_the_objects_of_new_images(copy: Project, tmp_path: Path) -> None:
    copy.run("dvc", "exp", "run", "-S", "objects=trained", "-S", "decoder=oscar", "-S", "train.epochs=1")
    card = json.loads(copy.read("data/objects/objects.json"))
    own = [(copy.folder / "data/objects/detector" / name).read_bytes() for name in FILES]
    assert card["source"] == {
        "name": "a detector trained on facts of the drawing",
        "weights": sha256(own[1]).hexdigest(),
    }
    assert card["scores"].keys() == {"val", "test"}
    assert not list((copy.folder / ".scratch/objects").glob("*"))
    model = json.loads(copy.read("data/train/model/model.json"))
    kind = {"kind": "trained", "source": card["source"]["name"], "weights": card["source"]["weights"]}
    assert model["provenance"]["objects"] == kind
    assert [(copy.folder / "data/train/model" / name).read_bytes() for name in FILES] == own
    assert model["files"].keys() >= set(FILES)
    path = image(copy, tmp_path)
    recorded = {row["image_id"]: row["caption"] for row in json.loads(copy.read("data/evaluate/captions.json"))}
    assert copy.run("captioning", "predict", *OWN, str(path)).stdout == f"{path}\t{recorded[max(recorded)]}\n"
    options = ("--objects", "--format", "jsonl", "--boxes", str(tmp_path / "boxes"), "--must-objects", "--tags", "dog")
    drawn = ("--attention", str(tmp_path / "looked"))
    listed = copy.run("captioning", "predict", *OWN, str(path), *options, *drawn).stdout
    with Image.open(tmp_path / f"boxes/{path.stem}-boxes.png") as sheet:
        assert sheet.size == (512, 512)  # of 64 pixels
    assert (tmp_path / f"looked/{path.stem}-attention.png").is_file()
    found = [one.record() for one in read_labels(copy.folder / "data/objects/label.tsv")[path.stem]]
    assert json.loads(listed)["objects"] == found
    _objects_of_another_detector_are_refused(copy, path, card)


def _objects_of_another_detector_are_refused(copy: Project, path: Path, card: dict) -> None:
    """By evaluate, and by predict of a table that lies beside its card; both name both."""
    table, digest = "data/objects/label.tsv", card["source"]["weights"]  # a longer line would be cut
    write_document(copy.folder / "data/objects/objects.json", card | {"source": card["source"] | {"weights": "0" * 64}})
    done = copy.run("captioning", "predict", *OWN, str(path), "--labels", table, check=False)
    ours, theirs = (f"trained ({card['source']['name']}, weights {digits[:12]})" for digits in (digest, "0" * 64))
    assert f"the model reads objects = {ours}, and these are {theirs}" in done.stderr
    copy.set("objects=trained", "decoder=oscar", "train.epochs=1")
    done = copy.run("python", "-m", "stages", "evaluate", check=False)
    assert f"was trained with objects = {ours}, and data/objects has {theirs}" in done.stderr


def index_width(index: dict) -> int:
    """D of a store."""
    return next(iter(index["arrays"]["means"].values()))["shape"][1]


def _captions_need_a_table(copy: Project, tmp_path: Path) -> None:
    path = image(copy, tmp_path)
    refused = copy.run("captioning", "predict", *OWN, str(path), check=False)
    said = "this model reads the objects of an image, labels (facts of the drawing); name a table of them with --labels"
    assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr
    table = copy.folder / "data/objects/label.tsv"
    recorded = {row["image_id"]: row["caption"] for row in json.loads(copy.read("data/evaluate/captions.json"))}
    printed = copy.run("captioning", "predict", *OWN, str(path), "--labels", str(table)).stdout
    assert printed == f"{path}\t{recorded[max(recorded)]}\n"
    shutil.copy(path, tmp_path / "stranger.png")
    partly = copy.run("captioning", "predict", *OWN, str(tmp_path), "--labels", str(table), check=False)
    assert (partly.returncode, len(partly.stdout.splitlines())) == (1, 1)
    assert "label.tsv: no row of stranger; the key is the image's name without suffix" in partly.stderr


def test_a_trained_encoder_reads_its_own_map_at_the_boxes_and_another_kind_is_refused(
    copy: Project, tmp_path: Path
) -> None:
    without = copy.folder / "without"
    shutil.copytree(copy.folder / "data/train/model", without)
    features = copy.read("data/features/index.json")
    copy.run("dvc", "exp", "run", *WANTED, "-S", "train.labels.epochs=1", "-S", "train.self_critical.epochs=1")
    assert copy.read("data/features/index.json") == features  # pixels, as before
    weights = copy.folder / "data/train/model/decoder.safetensors"
    assert json.loads(copy.read("data/train/model/model.json"))["scores"]["epoch"] >= 1
    assert weights.stat().st_size > 0
    assert "cider" in json.loads(copy.read("data/evaluate/metrics.json"))
    table = copy.folder / "data/objects/label.tsv"
    path = image(copy, tmp_path)
    refused = copy.run("captioning", "predict", "--model", str(without), str(path), "--labels", str(table), check=False)
    assert "--labels: this model reads no objects; leave it out" in refused.stderr
    shutil.rmtree(copy.folder / "data/train/model")
    shutil.copytree(without, copy.folder / "data/train/model")
    copy.set("objects=labels", "decoder=attention")
    done = copy.run("python", "-m", "stages", "evaluate", check=False)
    assert done.returncode == 1
    said = "was trained with objects = none, and data/objects has labels (facts of the drawing)"
    assert said in done.stderr
    copy.set("decoder=lstm")
    done = copy.run("python", "-m", "stages", "check", check=False)
    assert "objects = labels: the decoder lstm reads no regions" in done.stderr
    copy.set("decoder=attention", "train.augment.flip=0.5")
    done = copy.run("python", "-m", "stages", "check", check=False)
    assert "train.augment.flip = 0.5 moves objects, whose boxes stay" in done.stderr

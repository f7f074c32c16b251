"""The stage `objects` with a detector: what it leaves, what it refuses, and that it goes on after a kill."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from captioning.data.datasets.scenes import dataset as scenes
from captioning.data.objects import detectors
from captioning.data.objects.tables import Objects, identity
from captioning.data.splits import splits
from captioning.models.objects import Labels
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.system.sealed import write_table
from captioning.vision.detection import network
from stages import check
from stages import objects as stage
from tests.imports import ROOT


def settings(**overrides: object) -> Settings:
    changes = {"objects": "trained", "compute.threads": 1} | overrides
    return resolve.load(ROOT / "params.yaml", {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of a project that has drawn its scenes, and a small detector."""
    monkeypatch.chdir(tmp_path)
    for name in ("CAPTIONING_SOURCE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(network, "_WIDTHS", (2, 4, 4, 4))
    monkeypatch.setattr(detectors, "SURE", 0.0)  # it has hardly learnt anything
    (tmp_path / "data/download").mkdir(parents=True)
    table = scenes.write(tmp_path / "data/download", train=4, val=3, test=3, size=48, seed=1)
    images = splits.image_table(table)
    write_table(Path("data/split/images.csv"), images.to_csv(index=False, lineterminator="\n"))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_stopped_detector_goes_on_and_the_outputs_are_the_same_bytes(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.main(settings())
    whole, out = contents(drawn / "data/objects"), drawn / "data/objects"
    saves, write = count(1), Checkpoint.save

    def save(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        write(checkpoint, state)
        if next(saves) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        stage.main(settings(seed=1))
    assert len(list((drawn / ".scratch/objects").glob("*/checkpoint.pt"))) == 1
    stage.main(settings())
    assert next(saves) == 7  # six epochs were saved once each, and none of them twice
    assert contents(out) == whole
    assert not list((drawn / ".scratch/objects").iterdir())
    stage.main(settings(seed=2))
    assert contents(out)["detector/detector.safetensors"] != whole["detector/detector.safetensors"]


def test_the_card_says_what_found_the_objects_and_the_table_is_what_it_finds(drawn: Path) -> None:
    stage.main(settings())
    read = Objects(drawn / "data/objects")
    own = json.loads((drawn / "data/objects/detector/detector.json").read_text())
    assert identity(read.card) == {
        "kind": "trained",
        "source": "a detector trained on facts of the drawing",
        "weights": own["weights"],
    }
    assert read.card["scores"].keys() == {"val", "test"}
    assert (own["images"], own["image_size"], len(own["history"])) == (4, 96, 6)
    assert own["epoch"] == 1 + max(range(6), key=lambda epoch: own["history"][epoch]["ap50"])
    assert all(read.found.values())
    assert {one.name for found in read.found.values() for one in found} <= set(own["classes"])
    table = drawn / "data/objects/label.tsv"
    Labels(table, identity(read.card))
    other = {"kind": "labels", "source": "label.tsv"}
    with pytest.raises(
        UserError, match=r"the model reads objects = labels \(label.tsv\), and these are trained \(a det"
    ):
        Labels(table, other)


def test_a_data_set_without_true_boxes_cannot_train_one() -> None:
    able = "scenes, abstract_scenes, coco2014, coco2017 (coco2014 with download.split = official) do"
    for wanted in (settings(dataset="flickr8k"), settings(dataset="coco2014")):
        with pytest.raises(UserError) as refused:
            check._objects(wanted)
        said = f"objects = trained: {wanted.dataset} says of no image what is in it; {able}; write objects: labels"
        assert str(refused.value) == said
    check._objects(settings(dataset="coco2014", download__split="official"))
    check._objects(settings(dataset="scenes"))

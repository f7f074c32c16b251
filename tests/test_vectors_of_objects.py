"""Vectors of objects, from the source folder to a caption: whose they are, and what is refused, in one process."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from typer.testing import CliRunner

import captioning
from captioning.captioner import ensembles
from captioning.captioner import model as models
from captioning.cli.app import app
from captioning.data.objects import detectors, published_vectors
from captioning.data.objects.labels import Found, read_labels, write_labels
from captioning.data.objects.tables import Objects, identity
from captioning.data.objects.vectors import PUBLISHED, box_code, write_vectors
from captioning.data.splits.images import read_images
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system import sealed
from captioning.system.archives import ImageArchives
from captioning.system.errors import UserError
from captioning.vision.detection import torchvision_detectors
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.images import decode
from stages import check, download, evaluate, features, objects, split, train, vocab, weights
from tests.imports import ROOT
from tests.noise import noise
from tests.project import TINY
from tests.test_published_detectors import FILE, PYRAMID, SSDLITE, drawn


def flat(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def settings(**overrides: object) -> Settings:
    small = dict(flat(TINY)) | {
        "decoder": "oscar",
        "features.trainable": False,
        "train.epochs": 1,
        "download.scenes.train": 8,
        "download.scenes.val": 4,
        "download.scenes.test": 4,
        "download.source": "source",
    }
    return resolve.load(ROOT / "params.yaml", small | {key.replace("__", "."): one for key, one in overrides.items()})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run up to `split`, with a source folder."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("CAPTIONING_SOURCE", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        (folder / "source/weights").mkdir(parents=True)
        torch.save(drawn(SSDLITE), folder / "source/weights" / FILE)
        for one in (check, download, vocab, split, weights):
            (folder / "data/check").mkdir(parents=True, exist_ok=True)
            one.main(settings())
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the working folder."""
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for name in ("CAPTIONING_SOURCE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "project"


def to_the_end(wanted: Settings) -> None:
    for one in (check, objects, features, train, evaluate):
        one.main(wanted)


def predicted(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    return done.exit_code, done.output + (str(done.exception) if isinstance(done.exception, UserError) else "")


def image(folder: Path) -> Path:
    path = folder / "photo.png"
    noise((120, 80), 90).save(path)
    return path


def test_a_photograph_becomes_objects_and_a_caption_with_a_published_detector(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "SURE", 0.1)
    to_the_end(settings(objects=SSDLITE))
    card = Objects(project / "data/objects").card
    index = json.loads((project / "data/features/index.json").read_text())
    assert index["objects"] == {**identity(card), "table": card["files"]["label.tsv"]}
    folder, path = project / "data/train/model", image(project)
    assert json.loads((folder / "model.json").read_text())["provenance"]["objects"] == identity(card)
    for name in detectors.FILES:
        assert (folder / name).read_bytes() == (project / "data/objects/detector" / name).read_bytes()
    status, printed = predicted(path, "--model", folder, "--objects", "--format", "jsonl")
    assert status == 0, printed
    said = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    found = models.load(folder).detector
    assert found is not None
    with Image.open(path) as shown:
        expected = found.found(shown.convert("RGB"))
        assert said["objects"] == [one.record() for one in expected]
        assert said["caption"] == captioning.load(folder)(shown.convert("RGB")).text
    assert expected


def test_a_store_of_other_objects_is_refused_by_train_and_evaluate(project: Path) -> None:
    to_the_end(settings(objects="labels"))
    table = read_labels(project / "data/objects/label.tsv")
    first = json.loads((project / "data/features/index.json").read_text())["objects"]
    assert first.keys() == {"kind", "source", "table"}
    write_labels(project / "source/label.tsv", {key: found[:1] for key, found in table.items()})
    objects.main(settings(objects="labels"))
    second = Objects(project / "data/objects").card
    both = (
        rf"data/features has vectors of objects = labels \(facts of the drawing, table {first['table'][:12]}\), and "
        rf"data/objects has labels \(label.tsv, table {second['files']['label.tsv'][:12]}\); run `dvc repro -f feat"
    )
    with pytest.raises(UserError, match=both):
        train.main(settings(objects="labels"))
    (project / "source/label.tsv").unlink()
    objects.main(settings())
    features.main(settings())
    assert "objects" not in json.loads((project / "data/features/index.json").read_text())
    objects.main(settings(objects="labels"))
    with pytest.raises(UserError, match=r"vectors of objects = none, and data/objects has labels \(facts of the d"):
        evaluate.main(settings(objects="labels"))


Write = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def given(project: Path) -> Write:
    """Writes label.tsv in another order than that of scores, and feature.tsv; returns vectors by image, best first."""

    def write(
        name: str = "feature.tsv", *, half: bool = False, shifted: bool = False, short: str = ""
    ) -> dict[str, np.ndarray]:
        objects.main(settings(objects="labels"))
        found, sizes = read_labels(project / "data/objects/label.tsv"), Objects(project / "data/objects").sizes
        draws = np.random.default_rng(1)
        mixed = {key: [one._replace(score=round(draws.random(), 3)) for one in own] for key, own in found.items()}
        lines = (f"{key}\t{json.dumps([one.record() for one in own])}\n" for key, own in mixed.items())
        (project / "source/label.tsv").write_text("".join(lines))
        vectors = {}
        for key, own in mixed.items():
            code = box_code([one.box for one in own], sizes[key]) + (0.1 if shifted else 0)
            vectors[key] = np.concatenate([draws.normal(size=(len(own), 2048)).astype(np.float16), code], axis=1)
        vectors = {key: one[: len(one) - (key == short)] for key, one in vectors.items()}
        write_vectors(project / "source" / name, vectors.items(), half=half)
        order = {key: np.argsort([-one.score for one in own], kind="stable") for key, own in mixed.items()}
        return {key: one[order[key], :2048] for key, one in vectors.items() if key != short}

    return write


def test_a_frozen_run_stores_published_vectors_and_its_model_keeps_their_width(project: Path, given: Write) -> None:
    vectors = given()
    to_the_end(settings(objects="labels"))
    card = Objects(project / "data/objects").card
    assert (card["kind"], card["source"]["name"]) == ("published", "label.tsv")
    index = json.loads((project / "data/features/index.json").read_text())
    assert index["objects"]["vectors"] == card["source"]["vectors"]
    regions, means = (
        np.concatenate([np.load(project / "data/features" / file) for file in sorted(index["arrays"][name])])
        for name in ("regions", "means")
    )
    for row, key in enumerate(index["ids"]):
        count = len(vectors[key])
        np.testing.assert_array_equal(regions[row, 1 : 1 + count], vectors[key].astype(np.float16))
        assert not regions[row, 1 + count :].any()
        expected = vectors[key].mean(0) if count else np.zeros(2048)
        np.testing.assert_allclose(means[row], expected, atol=2e-3)
    saved = models.load(project / "data/train/model")
    assert saved.card.vector_width == 2048
    assert saved.card.objects == identity(card)
    assert saved.decoder.bert.img_embedding.weight.shape[1] == PUBLISHED  # type: ignore[union-attr]
    for more in ((), ("--labels", project / "source/label.tsv")):
        status, said = predicted(image(project), "--model", project / "data/train/model", *more)
        assert status == 1
        assert "vectors of objects which nothing here makes of an image; it captions the images of its run" in said


def test_the_whole_image_is_read_only_where_there_is_no_object(project: Path, given: Write) -> None:
    from captioning.data.objects import placing
    from captioning.data.text.vocabulary import SPECIAL, Vocabulary
    from captioning.vision.images import Transform

    given()
    transform = Transform(32, None, "bilinear", (0.5,), (0.5,))
    found = [[Found("dog", 1.0, (0.0, 0.0, 0.5, 0.5))], []]
    assert placing.place(found, Vocabulary(SPECIAL), "published").mask.tolist() == [[False, True], [True, False]]
    assert placing.place(found, Vocabulary(SPECIAL), "labels").mask.tolist() == [[True, True], [True, False]]
    objects.main(settings(objects="labels"))
    ids = list(Objects(project / "data/objects").found)
    placed = placing.of_folder(project / "data/objects", ids, transform, Vocabulary(SPECIAL))
    assert placed is not None
    assert (placed.mask[:, 0] == ~placed.mask[:, 1]).all()


def test_tables_that_do_not_agree_are_refused_with_file_and_row(project: Path, given: Write) -> None:
    given()
    first = next(key for key, found in read_labels(project / "source/label.tsv").items() if found)
    number = list(read_labels(project / "source/label.tsv")).index(first) + 1
    count = len(read_labels(project / "source/label.tsv")[first])
    for change, said in (
        (
            {"short": first},
            rf"feature.tsv, line {number}: {count - 1} vectors, and \S+label.tsv has {count} objects of {first}\Z",
        ),
        (
            {"shifted": True},
            rf"feature.tsv, line {number}: vector 1 has the box code \[.*, and the rect of .* in \S+label.tsv has",
        ),
    ):
        (project / "source/label.tsv").unlink()
        (project / "source/feature.tsv").unlink()
        given(**change)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=rf"\A[^\n]*{said}[^\n]*"):
            objects.main(settings(objects="labels"))
    (project / "source/label.tsv").unlink()
    (project / "source/feature.tsv").unlink()
    given()
    lines = (project / "source/feature.tsv").read_text().splitlines(keepends=True)
    (project / "source/feature.tsv").write_text("".join(lines[1:]))
    (project / "source/feature.lineidx").unlink()
    with pytest.raises(UserError, match=r"feature.tsv: no row of \S+, which is in \S+label.tsv\Z"):
        objects.main(settings(objects="labels"))


def test_what_published_vectors_cannot_do_is_refused_before_any_work(project: Path, given: Write) -> None:
    given()
    for change, said in (
        ({"features.trainable": True}, "features.trainable = true; write false"),
        ({"features.crop": "centre"}, "features.crop = centre; write none"),
        ({"features.mirror": True}, "features.mirror = true; write false"),
    ):
        with pytest.raises(
            UserError, match=rf"\A{said.partition(';')[0]}, and feature.tsv .*{said.partition('; ')[2]}, or"
        ):
            check._objects(settings(objects="labels", **change))
    for refused in (check._objects, objects.main):
        with pytest.raises(UserError, match=r"\Aobjects = boxes: \S+feature.tsv has vectors .*; write objects: labels"):
            refused(settings(objects="boxes"))
    check._objects(settings(objects="labels"))
    (project / "source/label.tsv").unlink()
    with pytest.raises(UserError, match=r"vectors of objects, and no label.tsv beside it says of which"):
        check._objects(settings(objects="labels"))
    with pytest.raises(UserError, match=r"no label.tsv beside it says of which"):
        objects.main(settings(objects="labels"))


@pytest.mark.parametrize("half", [False, True])
def test_vectors_of_splits_and_of_half_precision_are_one_table(project: Path, given: Write, half: bool) -> None:
    given(half=half)
    objects.main(settings(objects="labels"))
    whole = (project / "data/objects/vectors.npy").read_bytes()
    lines = (project / "source/feature.tsv").read_text().splitlines(keepends=True)
    (project / "source/feature.tsv").unlink()
    (project / "source/feature.lineidx").unlink()
    for name, part in (("train", lines[:8]), ("val", lines[8:12]), ("test", lines[12:])):
        (project / f"source/{name}.feature.tsv").write_text("".join(part))
    objects.main(settings(objects="labels"))
    assert (project / "data/objects/vectors.npy").read_bytes() == whole
    (project / "source/test.feature.tsv").write_text("".join(lines[11:]))
    with pytest.raises(UserError, match=r"test.feature.tsv: \S+ is in \S+val.feature.tsv too; remove one row"):
        objects.main(settings(objects="labels"))


def test_damaged_vectors_are_not_read(project: Path, given: Write) -> None:
    given()
    objects.main(settings(objects="labels"))
    found = Objects(project / "data/objects").found
    counts = {key: len(own) for key, own in found.items()}
    with pytest.raises(UserError, match=r"vectors.npy: not the vectors of label.tsv"):
        published_vectors.Vectors(project / "data/objects", dict(list(counts.items())[1:]) | {"more": 40})
    (project / "data/objects/vectors.npy").write_bytes(b"\\x93NUMPY")
    with pytest.raises(UserError, match=r"vectors.npy: not the file that objects.json describes"):
        Objects(project / "data/objects")
    with pytest.raises(UserError, match=r"vectors.npy: no array"):
        published_vectors.Vectors(project / "data/objects", counts)


BOX_HEAD = f"{PYRAMID}/box_head"


@torch.inference_mode()
def test_vectors_are_those_that_the_detector_itself_scores() -> None:
    """Its own inference, with these boxes as the only proposals; what its box head returns is caught on the way."""
    network: Any = torchvision_detectors.fitted(PYRAMID, drawn(PYRAMID))
    shares = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], [0.5, 0, 1, 0.3]], np.float32)
    shown = noise((120, 80), 90)
    vectors = detectors.PublishedDetector(network, ()).vectors(shown, shares)
    caught: list[torch.Tensor] = []

    def proposals(images: Any, *_given: object) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        height, width = images.image_sizes[0]
        return [torch.from_numpy(shares) * torch.tensor([width, height, width, height])], {}

    network.rpn.forward = proposals
    network.roi_heads.box_head.register_forward_hook(lambda _module, _given, made: caught.append(made))
    network([torch.from_numpy(np.array(shown)).permute(2, 0, 1) / 255])
    np.testing.assert_allclose(vectors, caught[0].numpy(), atol=1e-4, rtol=1e-4)
    assert vectors.shape == (3, 1024)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01


def test_a_photograph_becomes_vectors_of_a_box_head_and_a_caption(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "SURE", 0.1)
    file = torchvision_detectors.preset(PYRAMID).url.rpartition("/")[2]
    torch.save(drawn(PYRAMID), project / "source/weights" / file)
    to_the_end(settings(objects=BOX_HEAD))
    table = Objects(project / "data/objects")
    index = json.loads((project / "data/features/index.json").read_text())
    assert index["objects"]["kind"] == table.card["kind"] == BOX_HEAD
    assert index["encoder"] is None
    regions, means = (
        np.concatenate([np.load(project / "data/features" / part) for part in sorted(index["arrays"][name])])
        for name in ("regions", "means")
    )
    np.testing.assert_array_equal(means, regions[:, 0])
    detector = detectors.read(project / "data/objects/detector", "again")
    captioners = ensembles.load([project / "data/train/model"])
    images = read_images(Path("data/split/images.csv"))
    with ImageArchives(Path("data/download")) as files:
        for row in (0, 11):
            key, file = images["image_id"][row], images["file"][row]
            (width, height), boxes = table.sizes[key], [(0.0, 0.0, 1.0, 1.0)]
            for left, top, right, bottom in (one.box for one in table.found[key]):
                boxes.append((left / width, top / height, right / width, bottom / height))
            vectors = detector.vectors(decode(files.read(file), file), np.array(boxes, np.float32))
            np.testing.assert_allclose(regions[row, : len(boxes)], vectors, atol=2e-3, rtol=2e-3)
            assert len(boxes) > 1
            [placed] = captioners.places([table.found[key]], [decode(files.read(file), file)])
            assert isinstance(placed, Encoded)  # predict reads of an image what was stored of it
            np.testing.assert_allclose(placed.regions[0], regions[row, : len(boxes)], atol=2e-3, rtol=2e-3)
            np.testing.assert_allclose(placed.mean[0], means[row], atol=2e-3, rtol=2e-3)
            assert not regions[row, len(boxes) :].any()
    _it_captions(project, table)


def _it_captions(project: Path, table: Objects) -> None:
    """A model of a box head reads a photograph as it read the store: objects, vectors, caption; also of other boxes."""
    folder, path = project / "data/train/model", image(project)
    saved = models.load(folder)
    assert saved.card.vector_width == 1024
    assert saved.card.objects == identity(table.card)
    status, printed = predicted(path, "--model", folder, "--objects", "--format", "jsonl")
    assert status == 0, printed
    said = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    model = captioning.load(folder)
    with Image.open(path) as shown:
        found = saved.detector.found(shown.convert("RGB"))  # type: ignore[union-attr]
        assert said["objects"] == [one.record() for one in found]
        caption = model(shown.convert("RGB"))
        assert said["caption"] == caption.text
        [placed] = model.captioners.places([found], [shown.convert("RGB")])  # type: ignore[attr-defined]
    assert placed.regions.shape == (1, 1 + min(len(found), 36), 1024)
    assert caption.attention is not None
    assert caption.attention.shape == (len(caption.words) + 1, placed.regions.shape[1])
    (project / "other.jsonl").write_text(json.dumps({"file": str(path), "objects": [found[0].record()]}) + "\n")
    status, printed = predicted(path, "--model", folder, "--labels", project / "other.jsonl", "--tags", "")
    assert status == 0, printed
    status, printed = predicted(path, "--model", folder, "--mirror")
    assert status == 1
    assert f"this model reads {BOX_HEAD}" in printed
    assert "not of mirrored ones; leave --mirror out" in printed
    _it_lacks_its_detector(folder)


def _it_lacks_its_detector(folder: Path) -> None:
    record = json.loads((folder / "model.json").read_text())
    for name in detectors.FILES:
        (folder / name).unlink()
        del record["files"][name]
    sealed.write_document(folder / "model.json", {key: value for key, value in record.items() if key != "digest"})
    with pytest.raises(
        UserError,
        match=rf"{folder}: its weights do not fit .*it reads vectors of fasterrcnn.*, and has no such detector",
    ):
        models.load(folder)


def test_what_a_box_head_cannot_do_is_refused_before_any_work() -> None:
    for change, said in (
        ({"features.trainable": True}, "features.trainable = true; write false"),
        ({"features.crop": "centre"}, "features.crop = centre; write none"),
        ({"features.mirror": True}, "features.mirror = true; write false"),
        ({"evaluate.mirror": True, "features.mirror": True}, "features.mirror = true; write false"),
        ({"evaluate.mirror": True}, "evaluate.mirror = true; write false"),
    ):
        begin, _, remedy = said.partition("; ")
        with pytest.raises(UserError, match=rf"{begin}: objects = {BOX_HEAD} reads .*{remedy}, or leave /box_head out"):
            settings(objects=BOX_HEAD, **change)
    check._objects(settings(objects=BOX_HEAD))
    none = rf"\Aobjects = {SSDLITE}/box_head: {SSDLITE} has no box head, .*; write {SSDLITE}, or \S+_fpn/box_head or "
    with pytest.raises(UserError, match=none):
        check._objects(settings(objects=f"{SSDLITE}/box_head"))
    with pytest.raises(UserError, match=r"\Aobjects: 'labels' is no source of objects, .*; write fasterrcnn_\S+\Z"):
        check._objects(settings(objects="labels/box_head"))


def test_those_that_have_a_box_head_are_known_without_being_built() -> None:
    for name in torchvision_detectors.names():
        with torch.device("meta"):
            network: Any = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        if hasattr(getattr(network, "roi_heads", None), "box_head"):
            torchvision_detectors.check_box_head(name, "")
        else:
            with pytest.raises(UserError, match=f"{name} has no box head"):
                torchvision_detectors.check_box_head(name, "")

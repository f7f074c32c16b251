"""The stage `objects`: what data sets say is in their images, users' tables, scores, and what is refused."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from captioning.data.datasets.scenes import dataset as scenes
from captioning.data.datasets.scenes import drawing
from captioning.data.objects import placing, scores, truth
from captioning.data.objects.clip_art import read_clip_art
from captioning.data.objects.instances import Truth, read_instances
from captioning.data.objects.labels import Found, read_labels, write_labels
from captioning.data.objects.tables import Objects, identity
from captioning.data.splits import splits
from captioning.data.splits.images import read_images
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system.archives import Archive, write_zip
from captioning.system.errors import UserError
from captioning.system.sealed import DamagedError, write_table
from captioning.vision.images import Transform, decode, size_of
from stages import check
from stages import objects as stage
from tests.imports import ROOT
from tests.photographs import REAL, jpeg

DOG, CAT = Found("dog", 0.9, (1.0, 2.0, 30.0, 40.0)), Found("cat", 0.8, (5.0, 5.0, 64.0, 64.0))


def settings(**overrides: object) -> Settings:
    return resolve.load(ROOT / "params.yaml", {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, alone."""
    monkeypatch.chdir(tmp_path)
    for name in ("CAPTIONING_SOURCE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def enter(table: pd.DataFrame) -> None:
    """The images of a caption table, as `split` leaves them."""
    images = splits.image_table(table)
    write_table(Path("data/split/images.csv"), images.to_csv(index=False, lineterminator="\n"))


@pytest.fixture
def drawn(folder: Path) -> pd.DataFrame:
    """A project that has drawn its scenes."""
    (folder / "data/download").mkdir(parents=True)
    table = scenes.write(folder / "data/download", train=4, val=3, test=3, size=48, seed=1)
    enter(table)
    return table


@pytest.fixture
def photographs(folder: Path) -> Callable[..., Path]:
    """A project with four photographs of 64 pixels a side, and a source with files of these contents."""

    def make(**files: object) -> Path:
        names = ["one", "two", "three", "four"]
        members = {f"pictures/{name}.jpg": jpeg(number) for number, name in enumerate(names)}
        write_zip(folder / "data/download/photographs.zip", members.items())
        rows = [
            (name, f"photographs.zip/pictures/{name}.jpg", "a dog", split)
            for name, split in zip(names, ("train", "train", "val", "test"), strict=True)
        ]
        enter(pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"]))
        (folder / "source").mkdir()
        for name, labels in files.items():
            write_labels(folder / "source" / f"{name}.tsv", labels)  # type: ignore[arg-type]
        return folder / "source"

    return make


def test_without_objects_the_stage_leaves_the_same_bytes_whatever_the_images_are(folder: Path) -> None:
    stage.main(settings())
    first = {path.name: path.read_bytes() for path in (folder / "data/objects").iterdir()}
    assert json.loads(first["objects.json"])["kind"] == "none"
    stage.main(settings(dataset="flickr8k"))
    assert {path.name: path.read_bytes() for path in (folder / "data/objects").iterdir()} == first
    assert len(first) == 1


@pytest.mark.usefixtures("drawn")
def test_labels_of_scenes_are_the_rectangles_of_the_drawing(folder: Path) -> None:
    stage.main(settings(objects="labels"))
    read = Objects(folder / "data/objects")
    assert list(read.found) == read_images(Path("data/split/images.csv"))["image_id"].tolist()
    composed = scenes.compose(10, 1)
    for image, scene in zip(sorted(read.found), composed, strict=True):
        expected = [(one.name, round(one.left, 1), round(one.bottom, 1)) for one in drawing.objects(scene, 48)]
        assert [(one.name, one.box[0], one.box[3]) for one in read.found[image]] == expected
    assert set(read.sizes.values()) == {(48, 48)}
    assert list(read.classes) == sorted({one.name for found in read.found.values() for one in found})
    assert read.card["kind"] == "labels"
    assert read.card["source"]["name"] == "facts of the drawing"
    assert read.card["scores"] == {}  # they are the truth
    assert read.card["objects_per_image"] == sum(map(len, read.found.values())) / 10
    before = (folder / "data/objects/objects.json").read_bytes()
    stage.main(settings(objects="labels"))
    assert (folder / "data/objects/objects.json").read_bytes() == before


@pytest.mark.usefixtures("drawn")
def test_boxes_are_those_of_labels_and_no_name_is_read(folder: Path) -> None:
    out, made = folder / "data/objects", {}
    for kind in ("labels", "boxes"):
        stage.main(settings(objects=kind))
        table = Objects(out)
        assert identity(table.card) == {"kind": kind, "source": "facts of the drawing"}
        transform = Transform(32, None, "bilinear", (0.5,) * 3, (0.5,) * 3)
        placed = placing.of_folder(out, list(table.found), transform, Vocabulary((*SPECIAL, *table.classes)))
        assert placed is not None
        made[kind] = (table.found, placed)
    assert made["labels"][0] == made["boxes"][0]
    assert (made["labels"][1].boxes == made["boxes"][1].boxes).all()
    assert made["labels"][1].tags.shape[1] > made["boxes"][1].tags.shape[1] == 0


@pytest.mark.usefixtures("drawn")
def test_a_users_table_comes_before_what_the_data_set_says_and_has_scores(folder: Path) -> None:
    stage.main(settings(objects="labels"))
    found = read_labels(folder / "data/objects/label.tsv")
    (folder / "source/scenes").mkdir(parents=True)
    write_labels(folder / "source/scenes/label.tsv", found)
    stage.main(settings(objects="labels", download__source="source"))
    card = Objects(folder / "data/objects").card
    assert card["source"]["name"] == "label.tsv"
    assert card["scores"] == {split: {"ap": 1.0, "ap50": 1.0} for split in ("val", "test")}
    half = {image: [one._replace(name="tree") for one in objects] for image, objects in found.items()}
    write_labels(folder / "source/scenes/label.tsv", half)
    stage.main(settings(objects="labels", download__source="source"))
    assert Objects(folder / "data/objects").card["scores"]["val"]["ap50"] < 0.5


def test_a_table_of_photographs_is_cut_sorted_and_limited(photographs: Callable[..., Path], folder: Path) -> None:
    beyond = Found("dog", 0.5, (-3.0, 50.0, 80.0, 60.0))
    many = [Found("cat", number / 100, (0.0, 0.0, 9.0, 9.0)) for number in range(40)]
    photographs(label={"one": [CAT, DOG], "two": [], "three": [beyond], "four": many, "five": [DOG]})
    stage.main(settings(dataset="flickr8k", objects="labels", download__source="source"))
    read = Objects(folder / "data/objects")
    assert read.found["one"] == [DOG, CAT]
    assert read.found["two"] == []
    assert read.found["three"] == [Found("dog", 0.5, (0.0, 50.0, 64.0, 60.0))]
    assert [one.score for one in read.found["four"]] == [number / 100 for number in range(39, 3, -1)]
    assert read.card["without"] == 1
    assert read.classes == ("cat", "dog")


def test_tables_of_splits_are_one(photographs: Callable[..., Path], folder: Path) -> None:
    rows = {"train": ["one", "two"], "val": ["three"], "test": ["four"]}
    photographs(**{f"{split}.label": {name: [DOG] for name in names} for split, names in rows.items()})
    stage.main(settings(dataset="flickr8k", objects="labels", download__source="source"))
    assert Objects(folder / "data/objects").card["objects_per_image"] == 1
    write_labels(folder / "source/val.label.tsv", {"one": [], "three": []})
    with pytest.raises(UserError, match=r"val\.label\.tsv: one is in another file too; remove one of its rows\Z"):
        stage.main(settings(dataset="flickr8k", objects="labels", download__source="source"))


def test_a_table_that_does_not_fit_the_images_is_refused_and_the_last_one_stays(
    photographs: Callable[..., Path], folder: Path
) -> None:
    source = photographs()
    stage.main(settings(dataset="flickr8k"))
    wanted = settings(dataset="flickr8k", objects="labels", download__source="source")
    with pytest.raises(UserError, match=rf"objects = labels: flickr8k has no table .*; put label.tsv into {source}\Z"):
        stage.main(wanted)
    with pytest.raises(UserError, match=r"put label\.tsv into"):
        check._objects(wanted)
    for labels, said in (
        ({"one": [], "two": []}, "label.tsv: no row of 2 of 4 images: three, four; the key is"),
        (
            {key: [Found("dog", 1.0, (100.0, 1.0, 200.0, 9.0))] for key in ("one", "two", "three", "four")},
            r"label.tsv, one: the rect \[100.0, 1.0, 200.0, 9.0\] of dog is outside of the image, which has 64 × 64",
        ),
    ):
        write_labels(source / "label.tsv", labels)  # type: ignore[arg-type]
        check._objects(wanted)
        with pytest.raises(UserError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
            stage.main(wanted)
    assert json.loads((folder / "data/objects/objects.json").read_text())["kind"] == "none"
    assert [path.name for path in (folder / "data").iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("drawn")
def test_damaged_tables_are_not_read(folder: Path) -> None:
    stage.main(settings(objects="labels"))
    out = folder / "data/objects"
    for name in ("label.tsv", "hw.tsv", "classes.txt"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole.replace(b"1", b"2", 1) if b"1" in whole else whole[1:])
        with pytest.raises(DamagedError, match=f"{name}: not the file that objects.json describes; run"):
            Objects(out)
        (out / name).write_bytes(whole)
    (out / "objects.json").write_text((out / "objects.json").read_text().replace('"images": 10', '"images": 11'))
    with pytest.raises(DamagedError, match="run `dvc repro -f objects`"):
        Objects(out)


def instances(**changes: object) -> bytes:
    box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0, "area": 1, **changes}
    flat = {**box, "bbox": [1, 1, 0, 5]}
    crowd = {**box, "iscrowd": 1, "bbox": [0, 0, 100, 200]}
    images = [{"id": 7, "width": 100, "height": 200, "file_name": "7.jpg"}]
    document = {"images": images, "annotations": [box, flat, crowd], "categories": [{"id": 3, "name": "dog"}]}
    return json.dumps(document).encode()


def test_instances_are_in_pixels_of_the_image_as_it_is(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"annotations/instances_val2017.json": instances()}.items())
    found = read_instances(tmp_path / "a.zip", {"7": (50, 100)})
    assert found == {"7": Truth([Found("dog", 1.0, (5, 10, 20, 30))], [Found("dog", 1.0, (0, 0, 50, 100))])}
    assert read_instances(tmp_path / "a.zip", {"8": (50, 100)}) == {}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"annotations/captions_val2017.json": b"{}"}, "a.zip: it has no file instances_….json"),
        ({"annotations/instances_val2017.json": b"{"}, "instances_val2017.json: Invalid JSON"),
        ({"annotations/instances_val2017.json": b"{}"}, "instances_val2017.json, images: Field required"),
        ({"annotations/instances_val2017.json": instances(category_id=4)}, "category 4 is not listed"),
        ({"annotations/instances_val2017.json": instances(bbox=[0, 0, -1, 5])}, "annotations.0.bbox.2"),
        ({"annotations/instances_val2017.json": instances(iscrowd=2)}, "annotations.0.iscrowd"),
    ],
)
def test_malformed_instances_are_refused_by_name(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    write_zip(tmp_path / "a.zip", members.items())
    with pytest.raises(UserError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
        read_instances(tmp_path / "a.zip", {"7": (50, 100)})


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (width, height)).save(stream, "PNG")
    return stream.getvalue()


ART = {"Pngs/hb0_3s.png": png(40, 80), "Pngs/p_4s.png": png(100, 60)}
LINES = (
    "10020",
    "0 2",
    "hb0_3s.png 2 3 100 200 0 0",
    "p_4s.png 1 4 490 10 1 1",
    "0 0",
    "1 1",
    "p_4s.png 1 4 250 200 2 0",
)
SCENES = "".join(f"{line}\r\n" for line in LINES).replace(" ", "\t")


def test_clip_art_is_where_the_published_scenes_have_it(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", {"AbstractScenes_v1.1/Scenes_10020.txt": SCENES.encode(), **ART}.items())
    sizes = {"0": (500, 400), "1": (500, 400), "10": (250, 200), "11": (500, 400)}
    found = {key: one.objects for key, one in read_clip_art(tmp_path / "a.zip", sizes).items()}
    assert [one.name for one in found["0"]] == ["boy", "p_4s"]
    assert found["0"][0].box == (80, 160, 120, 240)
    assert found["0"][1].box == pytest.approx((455, -11, 525, 31))
    assert found["1"] == found["11"] == []
    assert found["10"][0].box == pytest.approx((112.75, 92.65, 137.25, 107.35))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10020\n0\n", "line 2: '0' is not a set and its number of pieces"),
        ("10020\n0\t1\nhb0_3s.png\t2\t3\t100\t200\t3\t0\n", "line 3: .* is not a piece of clip art"),
        ("10020\n0\t2\nhb0_3s.png\t2\t3\t100\t200\t0\t0\n", "line 4: '' is not a piece of clip art|line 3: ''"),
        ("10020\n0\t1\nzz.png\t2\t3\t100\t200\t0\t0\n", "line 3: the archive has no Pngs/zz.png"),
    ],
)
def test_malformed_clip_art_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    write_zip(tmp_path / "a.zip", {"Scenes_10020.txt": text.encode(), **ART}.items())
    with pytest.raises(UserError, match=rf"\A[^\n]*Scenes_10020.txt, (?:{said})[^\n]*\Z"):
        read_clip_art(tmp_path / "a.zip", {"0": (500, 400)})


def test_the_truth_of_data_sets_without_any_is_none(tmp_path: Path) -> None:
    assert truth.of("flickr8k", tmp_path) is None
    assert truth.of("coco2017", tmp_path) is None  # its archive is not there


def test_average_precision_is_cocos() -> None:
    """Half found: recall .5 at precision 1. A wrong one that is surer halves it. A crowd counts for nothing."""
    true = {"a": Truth([DOG, CAT], []), "b": Truth([DOG, CAT], [])}
    perfect = {"a": [DOG, CAT], "b": [DOG, CAT]}
    assert scores.average_precision(perfect, true) == {"ap": 1.0, "ap50": 1.0}
    half = scores.average_precision({"a": [DOG, CAT]}, true)
    assert half["ap50"] == pytest.approx(0.5, abs=0.01)
    wrong = Found("dog", 0.95, (50.0, 50.0, 60.0, 60.0))
    assert scores.average_precision({"a": [wrong, DOG, CAT]}, true)["ap50"] < half["ap50"]
    crowd = {"a": Truth([DOG, CAT], [Found("dog", 1.0, (40.0, 40.0, 64.0, 64.0))]), "b": true["b"]}
    assert scores.average_precision({"a": [wrong, DOG, CAT]}, crowd) == half
    zebra = [Found("zebra", 1.0, DOG.box)]
    assert scores.average_precision({"a": [*zebra, DOG, CAT]}, true) == half
    assert scores.average_precision({"a": zebra}, true) == {"ap": 0.0, "ap50": 0.0}


def test_sizes_are_those_of_the_decoded_image() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stream = io.BytesIO()
        Image.new("RGB", (30, 20)).save(stream, "JPEG", exif=exif)
        assert size_of(stream.getvalue(), "x.jpg") == decode(stream.getvalue(), "x.jpg").size
    for data in (b"", b"not an image", jpeg(1)[:20]):
        with pytest.raises(UserError, match=r"x\.jpg: not an image that can be decoded"):
            size_of(data, "x.jpg")


@pytest.mark.skipif(not (REAL / "coco2017_mini").is_dir(), reason="no shared data here")
def test_nanodets_boxes_have_their_known_precision_on_coco() -> None:
    """AP .262 and AP50 .441 were measured apart, over all boxes; the file has at most 36, of .1 and more."""
    found = read_labels(REAL / "coco2017_mini/label_val.tsv")
    with Archive(REAL / "coco2017_mini/val2017.zip") as archive:
        images = {str(int(Path(name).stem)): archive.read(name) for name in archive.names() if name.endswith(".jpg")}
    sizes = {key: size_of(data, key) for key, data in images.items()}
    true = read_instances(REAL / "coco2017_mini/annotations_trainval2017.zip", sizes)
    assert len(true) == 79
    score = scores.average_precision({str(int(key)): one for key, one in found.items()}, true)
    assert score["ap"] == pytest.approx(0.262, abs=0.005)
    assert score["ap50"] == pytest.approx(0.441, abs=0.015)

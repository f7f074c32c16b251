"""COCO 2014 and 2017 from archives in the published layout, and from archives with every fault; a real slice."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from captioning.data.datasets import annotations
from captioning.system.archives import Archive, ImageArchives, write_zip
from captioning.system.errors import UserError
from tests.photographs import REAL, Try, edited, jpeg
from tests.project import Project

MINI = REAL / "coco2017_mini"
TRAIN, VAL = (9, 25, 30), (42, 73)


def document(numbers: tuple[int, ...], pattern: str) -> dict[str, Any]:
    """COCO captions of these images, two each, in another order than the images."""
    said = [(number, index) for index in range(2) for number in reversed(numbers)]
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": [{"license": 3, "file_name": pattern % number, "height": 64, "id": number} for number in numbers],
        "annotations": [
            {"image_id": number, "id": 100 * number + index, "caption": f"Caption {index}\n of {number}. "}
            for number, index in said
        ],
    }


def archives(year: int) -> dict[str, dict[str, bytes]]:
    """The three published files: file name → member → bytes."""
    made: dict[str, dict[str, bytes]] = {f"annotations_trainval{year}.zip": {}}
    for part, numbers in ((f"train{year}", TRAIN), (f"val{year}", VAL)):
        pattern = "%012d.jpg" if year == 2017 else f"COCO_{part}_%012d.jpg"
        made[f"annotations_trainval{year}.zip"] |= {
            f"annotations/captions_{part}.json": json.dumps(document(numbers, pattern)).encode(),
            f"annotations/instances_{part}.json": b"{}",
        }
        made[f"{part}.zip"] = {f"{part}/": b""} | {f"{part}/{pattern % number}": jpeg(number) for number in numbers}
    return made


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    return Try(tmp_path, "coco2017")


@pytest.mark.parametrize("year", [2014, 2017])
def test_official_captions_become_a_table(tmp_path: Path, year: int) -> None:
    attempt = Try(tmp_path, f"coco{year}")
    prepared = attempt(archives(year))
    held_out = annotations.held_out(TRAIN)
    assert len(held_out) == 1
    parts = [(n, f"train{year}", "val" if n in held_out else "train") for n in TRAIN]
    parts += [(n, f"val{year}", "test") for n in VAL]
    parts.sort(key=lambda part: (("train", "val", "test").index(part[2]), str(part[0])))
    prefix = {2014: "COCO_{part}_", 2017: ""}[year]
    rows = [
        (str(n), f"{part}.zip/{part}/{prefix.format(part=part)}{n:012d}.jpg", f"Caption {index} of {n}.", split)
        for n, part, split in parts
        for index in range(2)
    ]
    pd.testing.assert_frame_equal(prepared.table, pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"]))
    published = {2014: ("82,783", "414,113", "40,504", "202,654"), 2017: ("118,287", "591,753", "5,000", "25,014")}[
        year
    ]
    assert prepared.notes == [
        "split: official",
        f"val is 1 images of train{year}, chosen by a hash of their numbers; test is val{year}",
        f"train{year}: 3 images, published {published[0]}; 6 captions, published {published[1]}",
        f"val{year}: 2 images, published {published[2]}; 4 captions, published {published[3]}",
    ]
    with ImageArchives(attempt.out) as images:
        assert images.read(prepared.table["file"].iloc[-1]) == jpeg(73)
    assert sorted(path.name for path in attempt.out.iterdir()) == sorted(archives(year))


def test_twice_gives_the_same(attempt: Try) -> None:
    first, second = attempt(archives(2017)), attempt.run()
    pd.testing.assert_frame_equal(first.table, second.table)
    assert first.record() == second.record()


def test_a_folder_of_images_is_packed(attempt: Try) -> None:
    """Whoever has COCO unpacked need not pack it: the folder stands for the archive."""
    files = archives(2017)
    train = files.pop("train2017.zip")
    unpacked = {f"coco2017/{name}": data for name, data in train.items() if data}
    prepared = attempt({**files, **unpacked})
    assert prepared.table["file"][0].startswith("train2017.zip/0000")
    with Archive(attempt.out / "train2017.zip") as archive:
        assert archive.read("000000000009.jpg") == jpeg(9)
    assert {file.name: file.origin for file in prepared.files}["train2017.zip"] == "source"
    again = attempt({"train2017.zip": train})
    assert again.table["file"][0].startswith("train2017.zip/train2017/0000")  # the archive itself comes first


def test_images_without_captions_and_captions_without_words_are_counted(attempt: Try) -> None:
    files = archives(2017)
    files["val2017.zip"]["val2017/000000000001.jpg"] = jpeg(1)
    changed = document(TRAIN, "%012d.jpg")
    changed["annotations"][0]["caption"] = " \n"
    files["annotations_trainval2017.zip"]["annotations/captions_train2017.json"] = json.dumps(changed).encode()
    prepared = attempt(files)
    assert prepared.notes[-2:] == [
        "1 images of val2017.zip are in no split and are left out",
        "1 captions without a word are left out",
    ]
    assert len(prepared.table) == 9


def change(path: str, value: Any) -> bytes:
    """The training captions with one value replaced."""
    return edited(document(TRAIN, "%012d.jpg"), path, value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", r"Invalid JSON: EOF .* line 1 column 1"),
        (b"", r"Invalid JSON"),
        (b"[" * 10_000, r"Invalid JSON: recursion limit"),
        (b'{"images": []}', r", annotations: Field required"),
        (b"[]", r"json: Input should be"),
        (change("images.1.file_name", None), r", images\.1\.file_name: Field required"),
        (change("images.1.id", "25"), r", images\.1\.id: Input should be a valid integer"),
        (change("images.1.id", True), r", images\.1\.id: Input should be a valid integer"),
        (change("images.1.id", 9), r"image 9 is there more than once"),
        (change("images.1.file_name", "000000000009.jpg"), r"train2017\.zip: the image 0{11}9\.jpg is there more"),
        (change("images.1.file_name", "../x.jpg"), r"train2017\.zip lacks 1 of the 3 .*: \.\./x\.jpg"),
        (change("annotations.3.caption", 5), r", annotations\.3\.caption: Input should be a valid string"),
        (change("annotations.3.id", 3000), r"annotation 3000 is there more than once"),
        (change("annotations.3.image_id", 7), r"annotation 3001 is of image 7, which it does not list"),
        (change("annotations.1.caption", "caf\u00e9").replace(b"caf\\u00e9", b"caf\xe9"), r"line 1: not UTF-8"),
        (change("annotations.1.caption", "\ud800"), r"Invalid JSON"),
        (change("annotations", []), r"has no caption of 3 of the 5 images in the splits: 000000000009\.jpg,"),
    ],
)  # fmt: skip
def test_a_malformed_annotation_file_is_one_clear_line(attempt: Try, data: bytes, said: str) -> None:
    files = archives(2017)
    files["annotations_trainval2017.zip"]["annotations/captions_train2017.json"] = data
    with attempt.refused(rf"{said}.*; (fix the file|pack or copy it|save it)"):
        attempt(files)
    assert not attempt.out.exists()


def test_a_control_character_is_named_with_its_annotation(attempt: Try) -> None:
    files = archives(2017)
    files["annotations_trainval2017.zip"]["annotations/captions_train2017.json"] = change(
        "annotations.3.caption", "a \x1b[2J dog"
    )
    with attempt.refused(r"captions_train2017\.json, annotation 3001: caption has the control character '\\x1b' in it"):
        attempt(files)


def test_an_image_in_both_official_parts_is_named(attempt: Try) -> None:
    files = archives(2017)
    both = json.dumps(document((9, 73), "%012d.jpg")).encode()
    files["annotations_trainval2017.zip"]["annotations/captions_val2017.json"] = both
    with attempt.refused(r"annotations_trainval2017\.zip: image 9 is there more than once"):
        attempt(files)


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_missing_annotation_file_is_named(attempt: Try, part: str) -> None:
    files = archives(2017)
    del files["annotations_trainval2017.zip"][f"annotations/captions_{part}2017.json"]
    with attempt.refused(rf"it has no member 'annotations/captions_{part}2017\.json'; pack or copy it again"):
        attempt(files)


def test_an_image_that_the_archive_lacks_is_named(attempt: Try) -> None:
    files = archives(2017)
    del files["val2017.zip"]["val2017/000000000042.jpg"]
    with attempt.refused(r"val2017\.zip lacks 1 of the 2 images in the splits: 000000000042\.jpg"):
        attempt(files)


def test_one_name_in_two_folders_of_an_archive_is_refused(attempt: Try) -> None:
    files = archives(2017)
    files["val2017.zip"]["other/000000000042.jpg"] = jpeg(42)
    with attempt.refused(r"val2017\.zip: the image 000000000042\.jpg is there more than once"):
        attempt(files)


@pytest.mark.parametrize("written", ["{part}/{name}", "images/{part}/{name}", "{part}\\{name}", "./{name}"])
def test_a_file_name_may_have_a_folder(attempt: Try, written: str) -> None:
    """As export tools write it; the archive may have another one, or none."""
    files = archives(2017)
    for part, numbers in (("train2017", TRAIN), ("val2017", VAL)):
        named = document(numbers, written.format(part=part, name="%012d.jpg"))
        files["annotations_trainval2017.zip"][f"annotations/captions_{part}.json"] = json.dumps(named).encode()
    prepared = attempt(files)
    assert prepared.table["file"].iloc[-1] == "val2017.zip/val2017/000000000073.jpg"
    assert not [note for note in prepared.notes if "left out" in note]


def test_the_folder_of_a_file_name_decides_between_images_of_one_name(attempt: Try) -> None:
    files = archives(2017)
    files["val2017.zip"] = {f"{folder}/1.jpg": jpeg(number) for number, folder in zip(VAL, "ab", strict=True)}
    named = document(VAL, "%d/1.jpg")
    for image, folder in zip(named["images"], "ab", strict=True):
        image["file_name"] = f"{folder}/1.jpg"
    files["annotations_trainval2017.zip"]["annotations/captions_val2017.json"] = json.dumps(named).encode()
    prepared = attempt(files)
    assert prepared.table["file"].tolist()[-4:] == ["val2017.zip/a/1.jpg"] * 2 + ["val2017.zip/b/1.jpg"] * 2
    named["images"][1]["file_name"] = "1.jpg"
    files["annotations_trainval2017.zip"]["annotations/captions_val2017.json"] = json.dumps(named).encode()
    with attempt.refused(r"val2017\.zip: the image 1\.jpg is there more than once"):
        attempt(files)


@pytest.mark.parametrize("name", sorted(archives(2017)))
def test_a_truncated_archive_is_named(attempt: Try, name: str) -> None:
    attempt.put(archives(2017))
    data = (attempt.source / name).read_bytes()
    (attempt.source / name).write_bytes(data[:-100])
    with attempt.refused(rf"source/{name}: missing, cut short or damaged .*; pack or copy it again"):
        attempt.run()
    assert not attempt.out.exists()


def test_a_corrupt_image_stops_the_run_or_is_left_out(tmp_path: Path) -> None:
    """As COCO 2014's number 167126, which has been reported corrupt."""
    attempt = Try(tmp_path, "coco2014")
    files = archives(2014)
    name = "train2014/COCO_train2014_000000000025.jpg"
    files["train2014.zip"][name] = jpeg(25)[:1000]
    with attempt.refused(
        rf"1 of 5 images cannot be decoded: train2014\.zip/{name} \(.* truncated.*\); .*download\.skip_corrupt=true"
    ):
        attempt(files)
    assert not attempt.out.exists()
    prepared = attempt(files, skip_corrupt=True)
    assert prepared.notes[-1].startswith(f"1 images that cannot be decoded are left out: train2014.zip/{name} (image")
    assert "25" not in set(prepared.table["image_id"])


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=60).flatmap(lambda n: st.permutations(sorted(n))))
def test_the_validation_images_do_not_depend_on_the_order(numbers: list[int]) -> None:
    drawn = annotations.held_out(numbers)
    assert drawn == annotations.held_out(sorted(numbers))
    assert len(drawn) == -(-len(numbers) // 10)
    assert drawn <= set(numbers)


def test_the_validation_images_are_these_and_at_most_five_thousand() -> None:
    """A golden value: another draw would make scores of before and after incomparable."""
    assert annotations.held_out(range(40)) == {8, 9, 29, 39}  # as sha256sum and sort give them
    assert len(annotations.held_out(range(118_287))) == 5000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["images", "annotations", "id", "image_id", "caption", "file_name"]), inner)
    ),
    max_leaves=15,
)


@given(_JSON)
def test_no_document_gives_anything_but_photographs_or_one_line(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "annotations_trainval2017.zip"
    good = json.dumps(document(VAL, "%012d.jpg")).encode()
    parts = [("train", json.dumps(value).encode()), ("val", good)]
    write_zip(path, [(f"annotations/captions_{part}2017.json", data) for part, data in parts])
    try:
        photographs, found = annotations.read(path, 2017)
    except UserError as fault:
        assert "\n" not in str(fault)  # noqa: PT017
    else:
        assert len(photographs) == sum(images for images, _ in found.values())


@pytest.mark.skipif(not MINI.is_dir(), reason=f"no slice of COCO 2017 in {REAL} (CAPTIONING_TEST_DATA)")
def test_a_real_slice_is_read_as_pycocotools_reads_it(tmp_path: Path) -> None:
    path = MINI / "annotations_trainval2017.zip"
    photographs, found = annotations.read(path, 2017)
    assert found == {"train2017": (80, 400), "val2017": (79, 395)}
    with zipfile.ZipFile(path) as archive:
        for part in ("train2017", "val2017"):
            whole = COCO(archive.extract(f"annotations/captions_{part}.json", tmp_path))
            ours = {int(photo.image_id): photo for photo in photographs if photo.archive == f"{part}.zip"}
            assert ours.keys() == whole.imgs.keys()
            for number, photo in ours.items():
                assert photo.name == whole.imgs[number]["file_name"]
                assert photo.captions == [said["caption"] for said in whole.imgToAnns[number]]


@pytest.mark.skipif(not MINI.is_dir(), reason=f"no slice of COCO 2017 in {REAL} (CAPTIONING_TEST_DATA)")
def test_a_real_slice_from_archives_to_scores(tmp_path: Path) -> None:
    """`dvc repro` on COCO 2017: official archives in, scores and COCO results out; nothing is set but the data set,
    what no network gives (the weights), and sizes."""
    project = Project.create(tmp_path / "project", tmp_path / "home", CAPTIONING_SOURCE=str(MINI))
    settings = project.read("params.yaml").replace("dataset: scenes", "dataset: coco2017")
    (project.folder / "params.yaml").write_text(settings.replace("weights: auto", "weights: none"))
    project.run("dvc", "repro")
    source = json.loads(project.read("data/download/source.json"))
    assert "train2017: 80 images, published 118,287; 400 captions, published 591,753" in source["notes"]
    assert [file["published"] for file in source["files"]] == [False] * 3
    official = {image["id"] for image in coco_document("val2017")["images"]}
    results = json.loads(project.read("data/evaluate/captions.json"))
    assert {row["image_id"] for row in results} == official
    scores = json.loads(project.read("data/evaluate/metrics.json"))
    human = json.loads(project.read("data/evaluate/baselines.json"))["human"]
    assert 0 <= scores["bleu_1"] < human["bleu_1"] < 1
    project.run("git", "add", "-A")
    assert json.loads(project.run("dvc", "status", "--json").stdout) == {}


def coco_document(part: str) -> Any:
    with Archive(MINI / "annotations_trainval2017.zip") as archive:
        return json.loads(archive.read(f"annotations/captions_{part}.json"))

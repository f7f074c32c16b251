"""Karpathy's splits of Flickr8k, Flickr30k and COCO 2014, and the photographs of Flickr30k that the user brings."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.datasets import karpathy
from captioning.data.datasets.published import Workspace
from captioning.system.archives import Archive, write_zip
from captioning.system.errors import UserError
from tests.photographs import Try, edited, jpeg
from tests.servers import Server

FLICKR = (("11.jpg", "train"), ("22.jpg", "test"), ("33.jpg", "val"), ("44.jpg", "train"))
COCO = ((9, "train2014", "train"), (42, "val2014", "restval"), (73, "val2014", "val"), (74, "val2014", "test"))


def image(filename: str, split: str, **more: object) -> dict[str, Any]:
    sentences = [
        {"tokens": ["a"], "raw": f"Caption {index} of {filename} . ", "imgid": 0, "sentid": index} for index in range(2)
    ]
    return {"sentids": [0, 1], "imgid": 0, "sentences": sentences, "split": split, "filename": filename, **more}


def coco_name(number: int, part: str) -> str:
    return f"COCO_{part}_{number:012d}.jpg"


FLICKR_RECORDS = [image(name, split) for name, split in FLICKR]
COCO_IMAGES = [image(coco_name(n, part), split, filepath=part, cocoid=n) for n, part, split in COCO]
FLICKR_IMAGES = {name: jpeg(int(name.removesuffix(".jpg"))) for name, _ in FLICKR}


def document(images: list[dict[str, Any]], name: str = "any") -> bytes:
    return json.dumps({"images": images, "dataset": name}).encode()


def coco_images() -> dict[str, dict[str, bytes]]:
    return {
        f"{part}.zip": {f"{part}/{coco_name(n, part)}": jpeg(n) for n, folder, _ in COCO if folder == part}
        for part in ("train2014", "val2014")
    }


@pytest.fixture
def coco(tmp_path: Path) -> Try:
    attempt = Try(tmp_path, "coco2014", "karpathy")
    attempt.put(coco_images())
    return attempt


def test_coco_trains_on_restval_and_reads_both_archives(coco: Try) -> None:
    documents = {"dataset_coco.json": document(COCO_IMAGES), "dataset_flickr8k.json": b"{}"}
    prepared = coco({"caption_datasets.zip": documents})
    assert prepared.table.drop_duplicates("image_id")[["image_id", "file", "split"]].values.tolist() == [
        ["42", "val2014.zip/val2014/COCO_val2014_000000000042.jpg", "train"],
        ["9", "train2014.zip/train2014/COCO_train2014_000000000009.jpg", "train"],
        ["73", "val2014.zip/val2014/COCO_val2014_000000000073.jpg", "val"],
        ["74", "val2014.zip/val2014/COCO_val2014_000000000074.jpg", "test"],
    ]
    assert prepared.table["caption"][1] == "Caption 1 of COCO_val2014_000000000042.jpg ."
    assert prepared.notes == [
        "split: karpathy",
        "train: 1 images, published 82,783; 2 captions, published 414,113",
        "restval: 1 images, published 30,504; 2 captions, published 152,634",
        "val: 1 images, published 5,000; 2 captions, published 25,010",
        "test: 1 images, published 5,000; 2 captions, published 25,010",
    ]
    assert [file.name for file in prepared.files] == ["caption_datasets.zip", "val2014.zip", "train2014.zip"]


def test_the_bare_document_is_the_same_as_the_archive(tmp_path: Path) -> None:
    tables = []
    for name, files in {
        "bare": {"dataset_coco.json": document(COCO_IMAGES)},
        "folder": {"coco2014/dataset_coco.json": document(COCO_IMAGES)},
        "zip": {"caption_datasets.zip": {"caption_datasets/dataset_coco.json": document(COCO_IMAGES)}},
    }.items():
        (tmp_path / name).mkdir()
        attempt = Try(tmp_path / name, "coco2014", "karpathy")
        prepared = attempt({**coco_images(), **files})
        tables.append(prepared.table.to_csv())
        assert {file.origin for file in prepared.files} == {"source"}
    assert tables[0] == tables[1] == tables[2]


def test_a_document_of_an_earlier_failed_run_is_not_taken_for_this_one(coco: Try) -> None:
    """The bare document of the first run stays in the cache; the second run brings the archive."""
    with coco.refused("lacks 1 of the 4"):
        coco(
            {
                "dataset_coco.json": document(
                    [*COCO_IMAGES, image(coco_name(5, "val2014"), "val", filepath="val2014", cocoid=5)]
                )
            }
        )
    (coco.source / "dataset_coco.json").unlink()
    prepared = coco({"caption_datasets.zip": {"dataset_coco.json": document(COCO_IMAGES)}})
    assert prepared.table["image_id"].nunique() == 4


def test_the_archive_comes_from_the_network_where_the_user_has_no_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_zip(tmp_path / "made.zip", [("dataset_flickr30k.json", document(FLICKR_RECORDS))])
    with Server(files={"caption_datasets.zip": (tmp_path / "made.zip").read_bytes()}) as server:
        monkeypatch.setattr(karpathy, "URL", server.url("caption_datasets.zip"))
        space = Workspace("flickr30k", None, tmp_path / "cache")
        fetched = karpathy.bring(space, "dataset_flickr30k.json")
        assert fetched.origin == server.url("caption_datasets.zip")
    entries, _ = karpathy.read(space.folder / fetched.name, "dataset_flickr30k.json")
    assert [(entry.filename, entry.used_as) for entry in entries] == list(FLICKR)


def broken(path: str, value: Any) -> bytes:
    """COCO's document with one value replaced."""
    return edited({"images": COCO_IMAGES}, path, value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", r"dataset_coco\.json: Invalid JSON: EOF"),
        (b"[]", r"dataset_coco\.json: Input should be"),
        (b"\xff\xfe{", r"dataset_coco\.json, line 1: not UTF-8"),
        (b"{}", r"dataset_coco\.json, images: Field required"),
        (broken("images.2.split", None), r"images\.2\.split: Field required"),
        (broken("images.2.split", "dev"), r"images\.2\.split: Input should be 'train', 'restval', 'val' or 'test'"),
        (broken("images.2.sentences.1.raw", "a\x07"), r"73\.jpg: caption has the control character '\\x07'"),
        (broken("images.2.filename", 5), r"images\.2\.filename: Input should be a valid string"),
        (broken("images.2.sentences.1.raw", None), r"images\.2\.sentences\.1\.raw: Field required"),
        (broken("images.2.sentences", []), r"has no caption of 1 of the 4 images .*: COCO_val2014_000000000073\.jpg"),
        (broken("images.2.filepath", "../other"), r"image COCO_val.*73\.jpg has filepath '\.\./other' and cocoid 73"),
        (broken("images.2.cocoid", None), r"image COCO_val.*73\.jpg has filepath 'val2014' and cocoid None"),
        (broken("images.2.cocoid", 9), r"image 9 is there more than once"),
        (broken("images.2.filename", "x.jpg"), r"val2014\.zip lacks 1 of the 3 .*: x\.jpg"),
        (broken("images.1.split", "val").replace(b'"train"', b'"val"'), r"no caption in the split 'train'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zipped", [False, True])
def test_a_malformed_document_is_one_clear_line(coco: Try, data: bytes, said: str, zipped: bool) -> None:
    with coco.refused(said):
        coco({"caption_datasets.zip": {"dataset_coco.json": data}} if zipped else {"dataset_coco.json": data})
    assert not coco.out.exists()


def test_an_archive_without_the_document_is_named(coco: Try) -> None:
    with coco.refused(r"caption_datasets\.zip: it has no member 'dataset_coco\.json'"):
        coco({"caption_datasets.zip": {"dataset_flickr8k.json": b"{}"}})


_KEYS = st.sampled_from(["images", "filename", "split", "sentences", "raw", "filepath", "cocoid"])
_JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["train", "val"]) | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner),
    max_leaves=15,
)


@given(_JSON)
def test_no_document_gives_anything_but_images_or_one_line(tmp_path_factory: Any, value: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "dataset_coco.json"
    path.write_text(json.dumps(value))
    try:
        entries, _ = karpathy.read(path, path.name)
    except UserError as fault:
        assert "\n" not in str(fault)  # noqa: PT017
    else:
        assert len(entries) == len(value["images"])


def test_flickr8k_needs_its_photographs_and_the_document_alone(tmp_path: Path) -> None:
    images = {f"Flicker8k_Dataset/{name}": data for name, data in FLICKR_IMAGES.items()}
    attempt = Try(tmp_path, "flickr8k", "karpathy")
    prepared = attempt({"Flickr8k_Dataset.zip": images, "dataset_flickr8k.json": document(FLICKR_RECORDS)})
    assert prepared.table["image_id"].tolist() == ["11", "11", "44", "44", "33", "33", "22", "22"]
    assert prepared.table["file"][0] == "Flickr8k_Dataset.zip/Flicker8k_Dataset/11.jpg"
    assert prepared.notes[:2] == [
        "split: karpathy",
        "train: 2 images, published 6,000; 4 captions, published 30,000",
    ]
    assert sorted(path.name for path in attempt.out.iterdir()) == ["Flickr8k_Dataset.zip", "dataset_flickr8k.json"]


@pytest.fixture
def flickr30k(tmp_path: Path) -> Try:
    attempt = Try(tmp_path, "flickr30k", "karpathy")
    attempt.put({"dataset_flickr30k.json": document(FLICKR_RECORDS)})
    return attempt


def as_tar(mode: str, folder: str = "flickr30k-images") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in FLICKR_IMAGES.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def as_folder(folder: str) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in FLICKR_IMAGES.items()}


FORMS: dict[str, Callable[[], Mapping[str, Mapping[str, bytes] | bytes]]] = {
    "tar.gz": lambda: {"flickr30k-images.tar.gz": as_tar("w:gz")},
    "tar": lambda: {"flickr30k/flickr30k-images.tar": as_tar("w")},
    "zip": lambda: {"flickr30k-images.zip": as_folder("flickr30k-images/flickr30k-images")},
    "folder": lambda: as_folder("flickr30k-images"),
    "folder with an underscore": lambda: as_folder("flickr30k/flickr30k_images"),
}


@pytest.mark.parametrize("form", FORMS)
def test_flickr30k_takes_the_photographs_as_the_user_has_them(flickr30k: Try, form: str) -> None:
    prepared = flickr30k(FORMS[form]())
    splits = {"11": "train", "44": "train", "33": "val", "22": "test"}
    assert dict(zip(prepared.table["image_id"], prepared.table["split"], strict=True)) == splits
    with Archive(flickr30k.out / "flickr30k-images.zip") as archive:
        for number, file in zip(prepared.table["image_id"], prepared.table["file"], strict=True):
            assert archive.read(file.removeprefix("flickr30k-images.zip/")) == FLICKR_IMAGES[f"{number}.jpg"]
    assert prepared.notes == [
        "split: karpathy",
        "train: 2 images, published 29,000; 4 captions, published 145,000",
        "val: 1 images, published 1,014; 2 captions, published 5,070",
        "test: 1 images, published 1,000; 2 captions, published 5,000",
    ]


def test_flickr30k_without_photographs_says_where_they_are_asked_for(flickr30k: Try) -> None:
    """Before anything is fetched: the form takes days."""
    with flickr30k.refused(
        r"no flickr30k-images\.tar\.gz .*download\.source.*fill in https://forms\.illinois\.edu/sec/"
    ):
        flickr30k.run()
    assert not (flickr30k.cache / "flickr30k").exists()


TOKENS = "".join(f"{name}#{index}\tPublished {index} of {name} .\n" for name in FLICKR_IMAGES for index in range(2))


def test_flickr30k_prefers_the_published_captions(flickr30k: Try) -> None:
    tokens = TOKENS + "55.jpg#0\tA image that is not there .\n"
    prepared = flickr30k({**FORMS["tar"](), "results_20130124.token": tokens.encode()})
    assert prepared.table["caption"].tolist()[:2] == ["Published 0 of 11.jpg .", "Published 1 of 11.jpg ."]
    assert prepared.notes[-1] == "1 captions of images that do not exist are left out: 55.jpg"
    assert "results_20130124.token" in {path.name for path in flickr30k.out.iterdir()}


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (TOKENS.replace("\t", " ", 1), r"token, line 1: '11\.jpg#0 Published .* is not NAME\.jpg#0<TAB>caption"),
        (TOKENS.replace("22.jpg", "2.jpg"), r"token has no caption of 1 of the 4 images in the splits: 22\.jpg"),
    ],
)
def test_faulty_published_captions_are_named(flickr30k: Try, tokens: str, said: str) -> None:
    with flickr30k.refused(rf"results_20130124\.{said}"):
        flickr30k({**FORMS["tar"](), "results_20130124.token": tokens.encode()})


def test_a_truncated_archive_of_photographs_is_named(flickr30k: Try) -> None:
    with flickr30k.refused(
        r"source/flickr30k-images\.tar\.gz: missing, cut short or damaged .*; pack or copy it again"
    ):
        flickr30k({"flickr30k-images.tar.gz": as_tar("w:gz")[:-2000]})
    assert not flickr30k.out.exists()


def test_a_corrupt_photograph_is_left_out_when_asked(flickr30k: Try) -> None:
    members = as_folder("flickr30k-images") | {"flickr30k-images/44.jpg": b"<html>"}
    with flickr30k.refused(r"1 of 4 images cannot be decoded: flickr30k-images\.zip/44\.jpg"):
        flickr30k(members)
    assert "44" not in set(flickr30k(members, skip_corrupt=True).table["image_id"])

"""One's own images: a folder or an archive, the table beside it, who is in which split, and every fault in words."""

import io
import json
import random
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.data.datasets import folder
from captioning.data.datasets.base import Options, Prepared, check_table
from captioning.data.datasets.registry import get
from captioning.data.splits import splits
from captioning.data.splits.captions import read_captions
from captioning.data.splits.images import read_images
from captioning.settings.resolve import load
from captioning.system.archives import Archive, ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.system.sealed import write_table
from tests.imports import ROOT
from tests.test_archives import tarred

DRAWN = SimpleNamespace(train=2, val=1, test=1, image_size=32, seed=1)
TABLE = """file,caption,split,image_id
a.png,A dog.,train,1
a.png,"A ""red"" dog, asleep.",train,1
sea/b.JPG,The sea.,val,2
c.png,A hat.,test,3
"""


def image(seed: int, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.frombytes("RGB", (24, 24), random.Random(seed).randbytes(24 * 24 * 3)).save(stream, kind)
    return stream.getvalue()


IMAGES = {"a.png": image(1), "sea/b.JPG": image(2, "JPEG"), "c.png": image(3)}


class Try:
    """Prepares a folder with these images and this table."""

    def __init__(self, root: Path) -> None:
        self.source, self.out, self.cache = root / "own", root / "out", root / "cache"
        self.source.mkdir()

    def put(self, table: str = TABLE, images: Mapping[str, bytes] = IMAGES) -> None:
        for name, data in images.items():
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            (self.source / name).write_bytes(data)
        (self.source / "captions.csv").write_text(table, encoding="utf-8")

    def __call__(self, table: str = TABLE, images: Mapping[str, bytes] = IMAGES, *, skip: bool = False) -> Prepared:
        self.put(table, images)
        return self.run(skip=skip)

    def run(self, *, skip: bool = False) -> Prepared:
        return folder.prepare(self.out, Options(None, skip, DRAWN, folder=self.source), self.cache)


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    return Try(tmp_path)


def test_the_table_and_the_record(attempt: Try, tmp_path: Path) -> None:
    prepared = attempt(images={**IMAGES, "d.png": image(4), ".hidden.png": b"", "notes.txt": b""})
    assert prepared.table.to_numpy().tolist() == [
        ["1", "images.zip/a.png", "A dog.", "train"],
        ["1", "images.zip/a.png", 'A "red" dog, asleep.', "train"],
        ["2", "images.zip/sea/b.JPG", "The sea.", "val"],
        ["3", "images.zip/c.png", "A hat.", "test"],
    ]
    check_table(prepared.table)
    assert prepared.notes == ["1 images have no caption and are left out: d.png"]
    assert [(file.name, file.origin) for file in prepared.files] == [
        ("captions.csv", "source"),
        ("images.zip", "source"),
    ]
    assert str(tmp_path) not in str(prepared.record())
    assert [path.name for path in attempt.out.iterdir()] == ["images.zip"]
    with ImageArchives(attempt.out) as images:
        assert images.read("images.zip/sea/b.JPG") == IMAGES["sea/b.JPG"]


def test_twice_gives_the_same_bytes(attempt: Try) -> None:
    first, packed = attempt(), (attempt.out / "images.zip").read_bytes()
    assert attempt.run().record() == first.record()
    assert (attempt.out / "images.zip").read_bytes() == packed


@pytest.mark.parametrize("archive", ["images.zip", "images.tar", "images.tar.gz", "images.tgz"])
def test_an_archive_beside_the_table(attempt: Try, archive: str) -> None:
    loose = attempt()
    for name in IMAGES:
        (attempt.source / name).unlink()
    if archive == "images.zip":
        write_zip(attempt.source / archive, IMAGES.items())
    else:
        with tarfile.open(attempt.source / archive, "w:gz" if archive != "images.tar" else "w") as tar:
            for name, data in IMAGES.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    assert attempt.run().table.equals(loose.table)


def test_what_the_folder_lacks_or_has_twice_is_named(attempt: Try) -> None:
    with pytest.raises(UserError, match=r"own: no table of captions there; write captions\.csv, or .*own-images\.md"):
        attempt.run()
    attempt()
    (attempt.source / "captions.jsonl").touch()
    with pytest.raises(UserError, match=r"own: captions\.csv and captions\.jsonl are both there; keep one"):
        attempt.run()
    (attempt.source / "captions.jsonl").unlink()
    (attempt.source / "images.zip").touch()
    (attempt.source / "images.tar").touch()
    with pytest.raises(UserError, match=r"own: images\.zip and images\.tar are both there; keep one"):
        attempt.run()
    attempt.source = attempt.source / "absent"
    with pytest.raises(UserError, match=r"download\.folder = .*absent: no such folder"):
        attempt.run()


def test_a_damaged_archive_is_named(attempt: Try) -> None:
    attempt()
    write_zip(attempt.source / "images.zip", IMAGES.items())
    whole = (attempt.source / "images.zip").read_bytes()
    (attempt.source / "images.zip").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"images\.zip: missing, cut short or damaged"):
        attempt.run()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a.png,A dog.,val,1", r"line 6: file 'a\.png' has split 'val', in line 2 'train'; give each image one"),
        ("c.png,A dog.,train,1", r"line 6: image_id '1' has file 'c\.png', in line 2 'a\.png'"),
        ("a.png,A dog.,train,9", r"line 6: file 'a\.png' has image_id '9', in line 2 '1'"),
        ("./a.png,A dog.,val,1", r"line 6: file 'a\.png' has split 'val'"),
        ("a.png,A dog.,dev,1", r"line 6: split 'dev' is none of train, val, test"),
        ("a.png,A dog.,,1", r"line 6: split is empty"),
        ("../a.png,A dog.,train,9", r"line 6: file '\.\./a\.png' leads outside the folder"),
        ("/etc/a.png,A dog.,train,9", r"line 6: file '/etc/a\.png' leads outside"),
        ("sea\\b.JPG,The sea.,val,2", r"line 6: file 'sea\\b\.JPG' leads outside the folder; .* with /"),
        ("x.raw,A dog.,train,9", r"line 6: file 'x\.raw' is no image; its name must end in \.bmp .*\.webp"),
        ("captions.csv,A dog.,train,9", r"line 6: file 'captions\.csv' is no image"),
        (
            "A.png,A dog.,train,9",
            r"captions\.csv: 1 files are not in .*own: A\.png \(line 6\); there is a\.png; correct",
        ),
        (
            "\n".join(f"{i}.png,A dog.,train,x{i}" for i in [*range(7), 0]),
            r"7 files are not in \S*: 0\.png \(line 6\), .*4\.png \(line 10\) and 2 more; there is a\.png",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_line(attempt: Try, rows: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        attempt(f"{TABLE}{rows}\n")
    assert "\n" not in str(caught.value)
    assert not attempt.out.exists()


def test_two_files_that_differ_in_suffix_need_an_image_id(attempt: Try) -> None:
    table = "file,caption,split\na.png,A,train\na.jpg,B,val\nc.png,C,test\n"
    with pytest.raises(
        UserError, match=r"line 3: image_id 'a' has file 'a\.jpg', in line 2 'a\.png'; .*its file without"
    ):
        attempt(table, {"a.png": image(1), "a.jpg": image(2, "JPEG"), "c.png": image(3)})


def test_without_split_and_image_id(attempt: Try) -> None:
    prepared = attempt("caption,file\nA dog.,a.png\nThe sea.,sea/b.JPG\nA hat.,c.png\n")
    assert sorted(prepared.table["image_id"]) == ["a", "c", "sea/b"]
    assert Counter(prepared.table["split"]) == {"train": 1, "val": 1, "test": 1}
    assert prepared.notes == [
        "the table has no column split: its images are divided by a hash of image_id (1 train, 1 val, 1 test)"
    ]


def test_two_images_are_too_few_to_split(attempt: Try) -> None:
    with pytest.raises(UserError, match=r"captions\.csv: 2 images; at least 3 are needed, one for each split"):
        attempt("file,caption\na.png,A\nc.png,B\n")


def test_a_split_that_is_not_in_the_table_is_named(attempt: Try) -> None:
    with pytest.raises(UserError, match="no caption in the split 'test'"):
        attempt(TABLE.replace("test", "val"))


def test_a_name_is_the_same_in_both_spellings_of_an_accent(attempt: Try) -> None:
    """macOS writes é as two characters."""
    composed, taken_apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    images = {taken_apart: image(1), "b.png": image(2), "c.png": image(3)}
    table = f"file,caption\n{composed},A\n{taken_apart},B\nb.png,C\nc.png,D\n"
    prepared = attempt(table, images)
    named = prepared.table[prepared.table["image_id"] == composed.removesuffix(".png")]
    assert named["file"].tolist() == [f"images.zip/{taken_apart}"] * 2


def test_a_corrupt_image_stops_the_run_or_is_left_out(attempt: Try) -> None:
    table = TABLE + "d.png,A cat.,train,4\n"
    images = {**IMAGES, "d.png": image(4)[:200]}
    with pytest.raises(
        UserError, match=r"1 of 4 images cannot be decoded: \S*own/d\.png \(.* truncated.*\); .*skip_corrupt=true"
    ):
        attempt(table, images)
    assert not attempt.out.exists()
    prepared = attempt(table, images, skip=True)
    assert "4" not in set(prepared.table["image_id"])
    assert prepared.notes[-1].startswith("1 images that cannot be decoded are left out: images.zip/d.png (")


@given(st.sets(st.text(min_size=1), min_size=3, max_size=60), st.randoms())
def test_every_split_has_an_image_whatever_the_order(images: set[str], chance: random.Random) -> None:
    images = {image.encode("utf-8", "ignore").decode() for image in images} | {"a", "b", "c"}
    shuffled = list(images)
    chance.shuffle(shuffled)
    splits = folder.split_by_hash(shuffled, Path("x"))
    assert set(splits) == images
    assert set(splits.values()) == {"train", "val", "test"}
    assert splits == folder.split_by_hash(sorted(images), Path("x"))


def test_an_image_stays_in_its_split_when_others_are_added() -> None:
    before = folder.split_by_hash(map(str, range(400)), Path("x"))
    after = folder.split_by_hash(map(str, range(1000)), Path("x"))
    assert before.items() <= after.items()
    counts = Counter(after.values())
    assert (counts["train"], counts["val"], counts["test"]) == pytest.approx((800, 100, 100), abs=30)


def test_the_hash_is_the_one_in_the_docs() -> None:
    """SHA-256 of "a" begins ca978112 (0.79 of the way), of "b" 3e23e816, of "c" 2e7d2c03."""
    assert folder.split_by_hash("abc", Path("x")) == {"c": "train", "b": "val", "a": "test"}


@pytest.mark.parametrize("images", [["2", "5", "6"], ["0", "1", "3"]])
def test_images_on_one_side_of_every_bound_are_shared_out(images: list[str]) -> None:
    """The numbers of 2, 5 and 6 are all above 0.8, those of 0, 1 and 3 all below."""
    splits = folder.split_by_hash(images, Path("x"))
    assert sorted(splits.values()) == ["test", "train", "val"]


def packed(attempt: Try) -> list[str]:
    with Archive(attempt.out / "images.zip") as archive:
        return archive.names()


@pytest.mark.parametrize("archive", [None, "images.zip", "images.tar.gz"])
def test_an_image_without_a_caption_is_left_out_of_what_is_pushed(attempt: Try, archive: str | None) -> None:
    images = {**IMAGES, "private.png": image(7), "caf\udce9\x1b.png": image(8), "notes.txt": b"x"}
    attempt.put(images={} if archive else images)
    if archive:
        pack_up(attempt.source / archive, {name: data for name, data in images.items() if "\udce9" not in name})
    prepared = attempt.run()
    assert packed(attempt) == sorted(IMAGES)
    left = "private.png" if archive else "caf\\xe9\\x1b.png, private.png"
    assert prepared.notes == [f"{1 if archive else 2} images have no caption and are left out: {left}"]
    json.dumps(prepared.record(), ensure_ascii=False).encode()


def test_a_name_that_dvc_cannot_record_is_refused_ahead_of_it(attempt: Try) -> None:
    attempt.put(images={**IMAGES, "caf\u00e9.png": b""})
    folder.check_names(attempt.source)
    (attempt.source / "sea/caf\udce9.txt").touch()
    with pytest.raises(UserError, match=r"own/sea/caf\\xe9\.txt: its name is not UTF-8, .*; rename it"):
        folder.check_names(attempt.source)


def pack_up(path: Path, images: Mapping[str, bytes]) -> None:
    if path.suffix == ".zip":
        write_zip(path, images.items())
    else:
        tarred(path, list(images.items()))


@pytest.mark.parametrize("name", ["a.png", "captions.csv", "images.zip"])
def test_a_link_out_of_the_folder_is_refused(attempt: Try, name: str) -> None:
    attempt()
    write_zip(attempt.source / "images.zip", IMAGES.items())
    if name == "a.png":
        (attempt.source / "images.zip").unlink()
    outside = attempt.source.parent / "outside"
    (attempt.source / name).rename(outside)
    (attempt.source / name).symlink_to(outside)
    with pytest.raises(UserError, match=rf"own/{name}: a link that leads out of the folder, .*; copy the file there"):
        attempt.run()
    (attempt.source / name).unlink()
    outside.rename(attempt.source / f"x-{name}")
    (attempt.source / name).symlink_to(f"x-{name}")
    assert len(attempt.run().table) == 4


def test_names_in_capitals(attempt: Try) -> None:
    attempt(TABLE.replace("file,caption,split", "File,CAPTION,Split"))
    (attempt.source / "captions.csv").rename(attempt.source / "Captions.CSV")
    write_zip(attempt.source / "images.ZIP", IMAGES.items())
    for name in IMAGES:
        (attempt.source / name).unlink()
    assert len(attempt.run().table) == 4
    (attempt.source / "captions.csv").touch()
    with pytest.raises(UserError, match=r"Captions\.CSV and captions\.csv are both there; keep one"):
        attempt.run()


KAGGLE = """image,caption
11.jpg,"A child , in a pink dress ."
11.jpg,A girl .
22.jpg,"A ""dog"" ."
33.jpg,Two dogs .
"""


@pytest.mark.parametrize("archive", [None, "images.zip", "images.tar.gz"])
def test_flickr8k_as_kaggle_has_it(attempt: Try, archive: str | None) -> None:
    """captions.txt beside the folder Images/, which it does not name."""
    images = {f"Images/{number}.jpg": image(number, "JPEG") for number in (11, 22, 33)}
    attempt.put(images={} if archive else images)
    (attempt.source / "captions.csv").unlink()
    (attempt.source / "captions.txt").write_text(KAGGLE)
    if archive:
        pack_up(attempt.source / archive, images)
    table = attempt.run().table
    assert sorted(table["image_id"]) == ["11", "11", "22", "33"]
    assert set(table["file"]) == {f"images.zip/{name}" for name in images}
    if not archive:
        (attempt.source / "b").mkdir()
        (attempt.source / "b/22.jpg").write_bytes(image(5))
        with pytest.raises(UserError, match=r"1 files are not in .*own: 22\.jpg \(line 4\)"):
            attempt.run()


def test_a_name_without_its_folder_is_no_image_where_other_rows_have_folders(attempt: Try) -> None:
    with pytest.raises(UserError, match=r"1 files are not in .*: x\.png \(line 6\)"):
        attempt(TABLE + "x.png,A dog.,train,9\n", {**IMAGES, "y/x.png": image(9)})


def test_image_ids_stay_as_they_are(attempt: Try, tmp_path: Path) -> None:
    """Twenty digits, and zeros ahead, through the tables that the stages write and read."""
    ids = ["20230912153045123456", "20230912153045123457", "0007"]
    rows = "".join(f"{name},A dog.,{identity}\n" for name, identity in zip(IMAGES, ids, strict=True))
    table = attempt("file,caption,image_id\n" + rows).table
    write_table(tmp_path / "captions.csv", table.to_csv(index=False))
    captions = read_captions(tmp_path / "captions.csv")
    assert set(captions["image_id"]) == set(ids)
    images = splits.image_table(splits.assign(captions))
    write_table(tmp_path / "images.csv", images.to_csv(index=False))
    again = read_images(tmp_path / "images.csv")
    assert set(again["image_id"]) == set(ids)
    assert sorted(again["coco_id"]) == [1, 2, 3]


def test_a_message_on_an_archive_of_ones_own_names_it(attempt: Try) -> None:
    """And not the packed copy; nobody is asked to delete it."""
    attempt()
    write_zip(attempt.source / "images.zip", IMAGES.items())
    data = bytearray((attempt.source / "images.zip").read_bytes())
    data[data.index(IMAGES["c.png"]) + 20] ^= 1
    (attempt.source / "images.zip").write_bytes(data)
    with pytest.raises(
        UserError, match=r"own/images\.zip, member 'c\.png': .*\(Bad CRC-32.*\); pack or copy it again$"
    ):
        attempt.run()
    write_zip(attempt.source / "images.zip", {**IMAGES, "c.png": b"x"}.items())
    with pytest.raises(UserError, match=r"cannot be decoded: \S*own/images\.zip/c\.png \(its format is not known\)"):
        attempt.run()


def test_it_is_a_data_set_and_the_default_is_that_of_the_settings() -> None:
    assert get("folder") is folder  # type: ignore[comparison-overlap]
    assert load(ROOT / "params.yaml").download.folder == Options(None, False, DRAWN).folder

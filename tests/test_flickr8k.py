"""Flickr8k from archives that are whole, and from archives with every fault that has been met; the data-set seam."""

import hashlib
import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.datasets import base, flickr8k, registry
from captioning.data.datasets.base import Options, Prepared, check_table, drop_corrupt
from captioning.data.datasets.tokens import parse_captions
from captioning.system.archives import Archive, ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.vision.images import decode
from tests.photographs import REAL, SCENES, jpeg
from tests.servers import Reply, Server

TOKENS, FOLDER = "Flickr8k.token.txt", "Flicker8k_Dataset/"
LISTS = {
    "Flickr_8k.trainImages.txt": b"d_1.jpg\nb_1.jpg\n",
    "Flickr_8k.devImages.txt": b"c_1.jpg\n",
    "Flickr_8k.testImages.txt": b"a_1.jpg\n",
}


IMAGES = {f"{FOLDER}{name}.jpg": jpeg(index) for index, name in enumerate(("a_1", "b_1", "c_1", "d_1", "e_1"))}
NAMES = [*(name.removeprefix(FOLDER) for name in IMAGES), "2258277193_586949ec62.jpg"]
CAPTIONS = "".join(f"{name}#{index}\t Caption {index} of {name} . \n" for name in NAMES for index in range(2))
TEXT = {TOKENS: CAPTIONS.encode().replace(b"62.jpg#0", b"62.jpg.1#0"), **LISTS}


def packed(folder: Path, members: Mapping[str, bytes]) -> bytes:
    write_zip(folder / "packed.zip", members.items())
    data = (folder / "packed.zip").read_bytes()
    (folder / "packed.zip").unlink()
    return data


class Try:
    """Prepares Flickr8k from a folder with these members, and their faults."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out, self.cache = folder / "source", folder / "out", folder / "cache"
        self.source.mkdir()

    def __call__(
        self, text: Mapping[str, bytes] = TEXT, images: Mapping[str, bytes] = IMAGES, *, skip_corrupt: bool = False
    ) -> Prepared:
        write_zip(self.source / "Flickr8k_text.zip", text.items())
        write_zip(self.source / "Flickr8k_Dataset.zip", images.items())
        return self.run(skip_corrupt=skip_corrupt)

    def run(self, *, skip_corrupt: bool = False) -> Prepared:
        return flickr8k.prepare(self.out, Options(self.source, skip_corrupt, SCENES), self.cache)

    def refused(self, said: str) -> AbstractContextManager[object]:
        return pytest.raises(UserError, match=said)


@pytest.fixture
def attempt(tmp_path: Path) -> Try:
    return Try(tmp_path)


def test_the_table_and_the_notes(attempt: Try) -> None:
    prepared = attempt()
    rows = [
        (name, f"Flickr8k_Dataset.zip/{FOLDER}{name}.jpg", f"Caption {index} of {name}.jpg .", split)
        for name, split in (("b_1", "train"), ("d_1", "train"), ("c_1", "val"), ("a_1", "test"))
        for index in range(2)
    ]
    pd.testing.assert_frame_equal(prepared.table, pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"]))
    assert prepared.notes == [
        "split: official",
        "train: 2 images, published 6,000; 4 captions, published 30,000",
        "val: 1 images, published 1,000; 2 captions, published 5,000",
        "test: 1 images, published 1,000; 2 captions, published 5,000",
        "Flickr8k.token.txt: 7 images, published 8,093; 12 captions, published 40,460",
        "1 images of Flickr8k_Dataset.zip are in no split and are left out",
        "2 captions of images that do not exist are left out: 2258277193_586949ec62.jpg, 2258277193_586949ec62.jpg.1",
    ]
    assert [file["origin"] for file in prepared.record()["files"]] == ["source", "source"]
    with ImageArchives(attempt.out) as images:
        assert images.read(prepared.table["file"][0]) == IMAGES[f"{FOLDER}b_1.jpg"]
    assert sorted(path.name for path in attempt.out.iterdir()) == ["Flickr8k_Dataset.zip", "Flickr8k_text.zip"]


def as_kaggle_has_it(attempt: Try) -> None:
    """Images/ and captions.txt, and no lists of splits."""
    (attempt.source / "Images").mkdir()
    for name, data in IMAGES.items():
        (attempt.source / "Images" / name.removeprefix(FOLDER)).write_bytes(data)
    (attempt.source / "captions.txt").write_text("image,caption\na_1.jpg,A dog .\n")


def test_images_of_kaggles_copy_are_taken_and_the_small_archive_comes_from_elsewhere(
    attempt: Try, tmp_path: Path
) -> None:
    expected = attempt().table
    for archive in attempt.source.iterdir():
        archive.unlink()
    as_kaggle_has_it(attempt)
    with Server(files={"Flickr8k_text.zip": packed(tmp_path, TEXT)}) as server:
        text = hashlib.md5(server.files["Flickr8k_text.zip"]).hexdigest()
        published = {server.url("Flickr8k_text.zip"): f"md5:{text}", server.url("Flickr8k_Dataset.zip"): "md5:0"}
        prepared = flickr8k.prepare(attempt.out, Options(attempt.source, False, SCENES), attempt.cache, published)
        assert [seen.path for seen in server.seen] == ["/Flickr8k_text.zip"]
    assert [file.origin for file in prepared.files] == [next(iter(published)), "source"]
    assert prepared.table["file"].tolist() == [name.replace(FOLDER, "") for name in expected["file"]]
    pd.testing.assert_frame_equal(prepared.table.drop(columns="file"), expected.drop(columns="file"))


def test_kaggles_copy_without_the_lists_of_splits_is_refused_with_what_to_do(attempt: Try) -> None:
    as_kaggle_has_it(attempt)
    with Server(files={}) as server:
        published = {server.url("Flickr8k_text.zip"): "md5:0", server.url("Flickr8k_Dataset.zip"): "md5:0"}
        with attempt.refused(
            r"source/captions\.txt: it says nothing of splits, and Flickr8k_text\.zip, which does, cannot be "
            r"downloaded; put that beside it, or read these files with dataset=folder and download\.folder"
        ):
            flickr8k.prepare(attempt.out, Options(attempt.source, False, SCENES), attempt.cache, published)


def test_the_record_names_no_folder_of_this_machine(attempt: Try, tmp_path: Path) -> None:
    assert str(tmp_path) not in str(attempt().record())


def test_twice_gives_the_same(attempt: Try) -> None:
    first, second = attempt(), attempt.run()
    pd.testing.assert_frame_equal(first.table, second.table)
    assert first.record() == second.record()


def test_from_the_network_and_again_after_a_fault_without_it(attempt: Try, tmp_path: Path) -> None:
    """A corrupt image stops the run; the next one, told to skip it, downloads nothing again."""
    broken = {**IMAGES, f"{FOLDER}b_1.jpg": IMAGES[f"{FOLDER}b_1.jpg"][:1000]}
    files = {"Flickr8k_text.zip": packed(tmp_path, TEXT), "Flickr8k_Dataset.zip": packed(tmp_path, broken)}
    with Server(files=files) as server:
        published = {server.url(name): f"md5:{hashlib.md5(data).hexdigest()}" for name, data in files.items()}
        with attempt.refused("download.skip_corrupt=true"):
            flickr8k.prepare(attempt.out, Options(None, False, SCENES), attempt.cache, published)
        assert not attempt.out.exists()
        prepared = flickr8k.prepare(attempt.out, Options(None, True, SCENES), attempt.cache, published)
        assert len(server.seen) == 2
    assert [file.origin for file in prepared.files] == list(published)
    assert all(file.published for file in prepared.files)
    assert "b_1" not in set(prepared.table["image_id"])


def test_a_truncated_archive_is_named_on_its_way_from_the_network(attempt: Try, tmp_path: Path) -> None:
    data = packed(tmp_path, TEXT)[:-100]
    with Server(Reply(data)) as server:
        published = {server.url("Flickr8k_text.zip"): f"md5:{hashlib.md5(data).hexdigest()}"}
        with attempt.refused(r"Flickr8k_text\.zip: missing, cut short or damaged .*; delete it and run"):
            flickr8k.prepare(attempt.out, Options(None, False, SCENES), attempt.cache, published)
    assert not attempt.out.exists()


@pytest.mark.parametrize("member", [TOKENS, *LISTS])
def test_a_missing_text_file_is_named(attempt: Try, member: str) -> None:
    with attempt.refused(rf"Flickr8k_text\.zip: it has no member '{member}'; pack or copy it again"):
        attempt({name: data for name, data in TEXT.items() if name != member})


@pytest.mark.parametrize("line", [b"a_1.jpg#0 no tab", b"a_1.jpg\tno number", b"#0\tno name", b"a_1.jpg#0\t ", b""])
def test_a_malformed_line_is_named_with_its_number(attempt: Try, line: bytes) -> None:
    lines = TEXT[TOKENS].splitlines()
    with attempt.refused(rf"Flickr8k_text\.zip/{TOKENS}, line 3: .* is not NAME\.jpg#0<TAB>caption; fix the file"):
        attempt({**TEXT, TOKENS: b"\n".join([*lines[:2], line, *lines[2:]])})


def test_what_is_not_utf_8_is_named_with_its_line(attempt: Try) -> None:
    with attempt.refused(rf"{TOKENS}, line 2: not UTF-8"):
        attempt({**TEXT, TOKENS: TEXT[TOKENS].replace(b"Caption 1 of a", b"Caption \xff of a")})


def test_an_image_in_two_splits_is_named(attempt: Try) -> None:
    with attempt.refused(r"Flickr_8k\.testImages\.txt, line 2: b_1\.jpg is listed twice"):
        attempt({**TEXT, "Flickr_8k.testImages.txt": b"a_1.jpg\nb_1.jpg\n"})


def test_images_of_a_split_that_the_archive_lacks_are_counted(attempt: Try) -> None:
    present = {name: data for name, data in IMAGES.items() if "c_1" not in name and "d_1" not in name}
    with attempt.refused(r"Flickr8k_Dataset\.zip lacks 2 of the 4 images in the splits: d_1\.jpg, c_1\.jpg;"):
        attempt(images=present)


def test_images_of_a_split_without_captions_are_counted(attempt: Try) -> None:
    kept = [line for line in TEXT[TOKENS].splitlines(keepends=True) if not line.startswith(b"d_1")]
    with attempt.refused(rf"{TOKENS} has no caption of 1 of the 4 images in the splits: d_1\.jpg"):
        attempt({**TEXT, TOKENS: b"".join(kept)})


def damaged(name: str, how: str) -> bytes:
    data = bytearray(IMAGES[name])
    middle = len(data) // 2
    if how == "cut":
        return bytes(data[:middle])
    if how == "garbage":
        data[middle : middle + 1000] = random.Random(2).randbytes(1000)
        return bytes(data)
    return b"<html>not found</html>"


@pytest.mark.parametrize("how", ["cut", "garbage", "page"])
def test_a_corrupt_image_stops_the_run_or_is_left_out(attempt: Try, how: str) -> None:
    name = f"{FOLDER}d_1.jpg"
    images = {**IMAGES, name: damaged(name, how)}
    with attempt.refused(
        rf"1 of 4 images cannot be decoded: Flickr8k_Dataset\.zip/{name} \(.+\); .* with download\.skip_corrupt=true"
    ):
        attempt(images=images)
    assert not attempt.out.exists()
    prepared = attempt(images=images, skip_corrupt=True)
    assert list(prepared.table["image_id"].unique()) == ["b_1", "c_1", "a_1"]
    assert prepared.notes[-1].startswith(f"1 images that cannot be decoded are left out: Flickr8k_Dataset.zip/{name} (")


def test_of_many_corrupt_images_the_first_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_AT_ONCE", 3)
    write_zip(tmp_path / "a.zip", [(f"{index}.jpg", b"") for index in range(8)])
    table = pd.DataFrame({"file": [f"a.zip/{index}.jpg" for index in range(8)]})
    with pytest.raises(
        UserError,
        match=r"^8 of 8 images cannot be decoded: a\.zip/0\.jpg \(the file is empty\), .*1\.jpg .* and 6 more;",
    ):
        drop_corrupt(table, tmp_path, skip=False)


def test_a_damaged_archive_is_no_corrupt_image(tmp_path: Path) -> None:
    """What the CRC finds is a bad copy: skipping would hide it."""
    write_zip(tmp_path / "a.zip", [("0.jpg", jpeg(0))])
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[1000] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip, member '0\.jpg': .*Bad CRC"):
        drop_corrupt(pd.DataFrame({"file": ["a.zip/0.jpg"]}), tmp_path, skip=True)


def test_a_split_that_lost_all_its_images_stops_the_run(attempt: Try) -> None:
    with attempt.refused("no caption in the split 'val'"):
        attempt(images={**IMAGES, f"{FOLDER}c_1.jpg": b""}, skip_corrupt=True)


_WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n#"), min_size=1)
_SAID = st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(str.strip)


@given(
    st.lists(st.tuples(_WORD, st.integers(0, 99), _SAID), min_size=1), st.sampled_from(["\n", "\r\n"]), st.booleans()
)
def test_parsing_inverts_writing(entries: list[tuple[str, int, str]], end: str, last: bool) -> None:
    text = end.join(f"{image}#{index}\t{said}" for image, index, said in entries) + (end if last else "")
    assert parse_captions(text, "x") == {
        image: [" ".join(said.split()) for other, _, said in entries if other == image] for image, _, _ in entries
    }


def test_a_control_character_is_named_with_its_line() -> None:
    for letter in "\x00\x07\x1b\x7f\x9f":
        with pytest.raises(UserError, match="x, line 2: caption has the control character") as refusal:
            parse_captions(f"a.jpg#0\tA dog.\na.jpg#1\tA {letter} dog.\n", "x")
        assert str(refusal.value).isprintable()


def test_a_long_line_that_is_malformed_is_not_repeated_whole() -> None:
    with pytest.raises(UserError, match="x, line 1: ") as refusal:
        parse_captions("dog " * 10_000, "x")
    assert len(str(refusal.value)) < 200


ROWS = [
    (name, f"a.zip/{name}", "words", split)
    for name, split in (("1", "train"), ("2", "train"), ("3", "val"), ("4", "test"))
]


@pytest.mark.parametrize(
    ("row", "value", "said"),
    [
        (1, ("2", "a.zip/2", " ", "train"), r"image 2 \(a\.zip/2\) has an empty caption"),
        (1, ("2", "a.zip/2", "words", "dev"), r"image 2 .* is in a split that is none of train, val, test"),
        (1, ("3", "a.zip/3", "words", "train"), r"image 3 .* has more than one split"),
        (1, ("1", "b.zip/1", "words", "train"), r"image 1 .* has more than one file"),
        (2, ("3", "a.zip/3", "words", "test"), r"no caption in the split 'val'"),
        (0, ("9", "a.zip/9", "words", "train"), r"not in order of split"),
    ],
)
def test_a_faulty_table_is_refused(row: int, value: tuple[str, ...], said: str) -> None:
    columns = ["image_id", "file", "caption", "split"]
    check_table(pd.DataFrame(ROWS, columns=columns))
    rows = [*ROWS[:row], value, *ROWS[row + 1 :]]
    with pytest.raises(UserError, match=said):
        check_table(pd.DataFrame(rows, columns=columns))
    with pytest.raises(UserError, match=r"columns \['image_id', 'file', 'split', 'caption'\]; it needs"):
        check_table(pd.DataFrame(rows, columns=["image_id", "file", "split", "caption"]))


def test_scenes_through_the_seam(tmp_path: Path) -> None:
    prepared = registry.get("scenes").prepare(tmp_path, Options(None, False, SCENES), tmp_path / "cache")
    assert prepared.table.drop_duplicates("image_id")["split"].tolist() == ["train", "train", "val", "test"]
    assert prepared.record() == {"files": [], "notes": []}


def test_a_name_that_is_no_data_set_gets_the_closest_one() -> None:
    with pytest.raises(UserError, match=r"dataset = 'flickr8': no such data set; did you mean flickr8k\?"):
        registry.get("flickr8")
    with pytest.raises(UserError, match=r"dataset = 'voc': no such data set; there are .*flickr8k, folder, scenes"):
        registry.get("voc")


@pytest.mark.skipif(not (REAL / "flickr8k").is_dir(), reason=f"no Flickr8k in {REAL} (CAPTIONING_TEST_DATA)")
def test_the_real_files() -> None:
    text, photographs = (REAL / "flickr8k" / name for name in ("Flickr8k_text.zip", "Flickr8k_Dataset.zip"))
    table, notes = flickr8k.read(text, photographs)
    check_table(table)
    assert table.drop_duplicates("image_id")["split"].value_counts().to_dict() == {
        "train": 6000,
        "val": 1000,
        "test": 1000,
    }
    assert table["image_id"].value_counts().unique().tolist() == [5]
    assert tuple(table.iloc[1]) == (
        "1000268201_693b08cb0e",
        "Flickr8k_Dataset.zip/Flicker8k_Dataset/1000268201_693b08cb0e.jpg",
        "A girl going into a wooden building .",
        "train",
    )
    assert notes == [
        "91 images of Flickr8k_Dataset.zip are in no split and are left out",
        "5 captions of images that do not exist are left out: 2258277193_586949ec62.jpg, 2258277193_586949ec62.jpg.1",
    ]
    with Archive(photographs) as archive, ImageArchives(REAL / "flickr8k") as images:
        assert len(archive.names()) == 8091
        assert decode(images.read(table["file"][0]), table["file"][0]).mode == "RGB"

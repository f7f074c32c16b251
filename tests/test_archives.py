"""Zip files: the same bytes, read in place, and faults that name file and member."""

import io
import random
import re
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from captioning.system.archives import Archive, ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.system.packing import pack

MEMBERS = [(f"folder/{index:03d}.bin", random.Random(index).randbytes(2000)) for index in range(40)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_zip(tmp_path / "a.zip", MEMBERS)
    return tmp_path / "a.zip"


def test_same_members_give_the_same_bytes(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("sys.platform", "win32")  # what ZipInfo looks at for create_system
    write_zip(archive.with_name("b.zip"), MEMBERS)
    assert archive.read_bytes() == archive.with_name("b.zip").read_bytes()


def test_members_are_stored_with_fixed_time_and_permissions(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        about = {
            (entry.compress_type, entry.date_time, entry.create_system, entry.external_attr >> 16)
            for entry in opened.infolist()
        }
    assert about == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0), 3, 0o100644)}


def test_a_failure_leaves_the_old_archive(archive: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield "x", b"1"
        raise RuntimeError

    before = archive.read_bytes()
    with pytest.raises(RuntimeError):
        write_zip(archive, broken())
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.iterdir()] == ["a.zip"]


def test_reads_what_was_written(archive: Path) -> None:
    with Archive(archive) as opened:
        assert [(name, opened.read(name)) for name in opened.names()] == MEMBERS


def test_names_are_sorted_and_without_litter(tmp_path: Path) -> None:
    names = ["b/2.jpg", "b/1.jpg", "__MACOSX/b/1.jpg", "__MACOSX/b/._1.jpg", "b/.DS_Store", "a.txt", ".hidden"]
    write_zip(tmp_path / "a.zip", [(name, b"") for name in names])
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as opened:
        opened.mkdir("empty")
    with Archive(tmp_path / "a.zip") as read:
        assert read.names() == ["a.txt", "b/1.jpg", "b/2.jpg"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:/x", "c:x", "a\\..\\x"])
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    write_zip(tmp_path / "a.zip", [("good", b"1"), (name, b"2")])
    with pytest.raises(UserError, match=re.escape(f"a.zip: member '{name}' leads outside the archive")):
        Archive(tmp_path / "a.zip")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.zip: missing, .*\(No such file.*\); .*run `dvc repro download`"):
        Archive(tmp_path / "a.zip")


def test_a_truncated_archive_is_named(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:30_000])
    with pytest.raises(UserError, match=r"a\.zip: missing, cut short or damaged \(.*\); delete it") as caught:
        Archive(archive)
    assert "\n" not in str(caught.value)


def test_a_damaged_member_is_named(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[data.index(MEMBERS[3][1]) + 1000] ^= 1
    archive.write_bytes(data)
    with Archive(archive) as opened:
        assert opened.read(MEMBERS[2][0]) == MEMBERS[2][1]
        with pytest.raises(UserError, match=r"a\.zip, member 'folder/003.bin': .*damaged \(Bad CRC-32"):
            opened.read(MEMBERS[3][0])


def test_a_missing_member_is_named(archive: Path) -> None:
    with Archive(archive) as opened, pytest.raises(UserError, match=r"a\.zip: it has no member 'x'"):
        opened.read("x")


def test_damage_anywhere_is_a_user_error(tmp_path: Path) -> None:
    """Of 2,000 damaged archives, each is read or refused; nothing else ever escapes."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"é/{index}.jpg", b"some text, " * 20)
    whole, chance, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(2000):
        data = bytearray(whole)
        data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256)])
        path.write_bytes(data)
        try:
            with Archive(path) as opened:
                for name in opened.names():
                    opened.read(name)
        except UserError:
            refused += 1
    assert refused > 500


def test_threads_read_at_the_same_time(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_zip(tmp_path / name, MEMBERS)
    wanted = {f"{name}/{member}": data for name in ("a.zip", "b.zip") for member, data in MEMBERS}
    start = threading.Barrier(8)

    def read_all(_: int) -> dict[str, bytes]:
        start.wait()
        return {file: images.read(file) for file in wanted}

    with ImageArchives(tmp_path) as images, ThreadPoolExecutor(8) as pool:
        assert all(found == wanted for found in pool.map(read_all, range(8)))


def test_images_open_an_archive_once_and_close_it(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Archive] = []
    original = Archive.__init__

    def noted(self: Archive, path: Path) -> None:
        opened.append(self)
        original(self, path)

    monkeypatch.setattr(Archive, "__init__", noted)
    with ImageArchives(archive.parent) as images:
        assert not opened
        for name, data in MEMBERS:
            assert images.read(f"a.zip/{name}") == data
    assert len(opened) == 1
    assert opened[0]._zip.fp is None
    with pytest.raises(UserError, match=r"b\.zip: missing"), ImageArchives(archive.parent) as images:
        images.read("b.zip/x")


IMAGES = [("b/2.jpg", b"two"), ("a/1.PNG", b"one"), ("c.jpg", b"three")]


def tarred(path: Path, members: list[tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def contents(path: Path) -> dict[str, bytes]:
    with Archive(path) as opened:
        return {name: opened.read(name) for name in opened.names()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_a_tar_file_becomes_a_zip_file(tmp_path: Path, mode: str) -> None:
    tar = tarred(tmp_path / "a.tar", [*IMAGES, ("notes.txt", b""), ("b/._2.jpg", b"litter")], mode)
    pack(tar, tmp_path / "a.zip")
    assert contents(tmp_path / "a.zip") == dict(IMAGES)


def test_a_folder_becomes_a_zip_file_with_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    for folder, members in (("one", IMAGES), ("two", IMAGES[::-1])):
        for name, data in [*members, ("read.me", b"")]:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(data)
        pack(tmp_path / folder, tmp_path / f"{folder}.zip")
    assert contents(tmp_path / "one.zip") == dict(IMAGES)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_zip_file_is_copied_as_it_is(tmp_path: Path, archive: Path) -> None:
    pack(archive, tmp_path / "copy.zip")
    assert (tmp_path / "copy.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../x.jpg", b"")], "leads outside"),
        ([("/x.jpg", b"")], "leads outside"),
        ([("x.jpg", b""), ("x.jpg", b"")], "is there twice"),
        ([("x.txt", b"")], "no images there"),
    ],
)
def test_a_tar_file_that_is_not_to_be_trusted_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        pack(tarred(tmp_path / "a.tar.gz", members), tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_link_in_a_tar_file_is_no_image(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("x.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(UserError, match="no images there"):
        pack(tmp_path / "a.tar", tmp_path / "a.zip")


@pytest.mark.parametrize("damage", ["cut", "text", "absent"])
def test_a_source_that_cannot_be_packed_is_named(tmp_path: Path, damage: str) -> None:
    tar = tarred(tmp_path / "a.tar.gz", [(f"{i}.jpg", random.Random(i).randbytes(9000)) for i in range(9)])
    whole = tar.read_bytes()
    tar.unlink()
    if damage != "absent":
        tar.write_bytes(whole[:30000] if damage == "cut" else b"not an archive")
    with pytest.raises(UserError, match=r"a\.tar\.gz: missing, cut short or damaged"):
        pack(tar, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()

"""What is packed of a user's folder or archive, what is refused in one line, and what no damage brings about."""

import bz2
import gzip
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.system import archives
from captioning.system.archives import Archive, write_zip
from captioning.system.errors import UserError
from captioning.system.packing import members, pack
from tests.damaged_bytes import damaged
from tests.properties import examples
from tests.test_archives import contents, tarred

IMAGES = {"a.jpg": b"one, " * 90, "b/c.png": b"two, " * 90, "d.gif": b"three, " * 90}
SECRET = b"not for others"


def as_folder(path: Path, files: dict[str, bytes] = IMAGES) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def as_zip(path: Path, files: dict[str, bytes] = IMAGES, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return path


def as_tar(path: Path, files: dict[str, bytes] = IMAGES, mode: str = "w:gz") -> Path:
    return tarred(path, list(files.items()), mode)


SOURCES: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {"own": as_folder, "a.zip": as_zip, "a.tar.gz": as_tar}


def refused(source: Path, said: str, names: list[str] | None = None) -> None:
    """Both the listing and the packing of it, or the packing alone, end in one short line; nothing is left."""
    with pytest.raises(UserError, match=said) as caught:
        pack(source, source.with_name("packed.zip"), members(source) if names is None else names)
    text = str(caught.value)
    assert text.startswith(str(source))
    assert text.isprintable()
    assert len(text.replace(str(source), "own")) <= 300
    assert "delete" not in text
    assert not source.with_name("packed.zip").exists()


@pytest.mark.parametrize("name", SOURCES)
def test_only_the_named_images_are_packed(tmp_path: Path, name: str) -> None:
    source = SOURCES[name](tmp_path / name, {**IMAGES, "secret.jpg": SECRET, "secret.txt": SECRET})
    assert members(source) == [*sorted(IMAGES), "secret.jpg"]
    pack(source, tmp_path / "packed.zip", sorted(IMAGES))
    assert contents(tmp_path / "packed.zip") == IMAGES
    assert SECRET not in (tmp_path / "packed.zip").read_bytes()


def test_nothing_else_that_a_zip_file_holds_is_packed(tmp_path: Path) -> None:
    """Not what stands ahead of the members, nor the comment, nor what was deleted from the list."""
    source = as_zip(tmp_path / "a.zip", method=zipfile.ZIP_STORED)
    source.write_bytes(SECRET + source.read_bytes())
    with zipfile.ZipFile(source, "a") as archive:
        archive.comment = SECRET
    pack(source, tmp_path / "packed.zip", list(IMAGES))
    assert SECRET not in (tmp_path / "packed.zip").read_bytes()
    assert contents(tmp_path / "packed.zip") == IMAGES


@pytest.mark.parametrize("linked", ["x.jpg", "linked/x.jpg"])
def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path, linked: str) -> None:
    as_folder(tmp_path / "outside", {"x.jpg": SECRET})
    folder = as_folder(tmp_path / "own")
    target, link = ("outside", "linked") if "/" in linked else ("outside/x.jpg", "x.jpg")
    (folder / link).symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"x\.jpg: a link that leads out of the folder, .*; copy the file there"):
        pack(folder, tmp_path / "packed.zip", [*IMAGES, linked])
    assert not (tmp_path / "packed.zip").exists()
    pack(folder, tmp_path / "packed.zip", list(IMAGES))
    assert contents(tmp_path / "packed.zip") == IMAGES


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "own")
    (folder / "x.jpg").symlink_to("b/c.png")
    (folder / "linked").symlink_to("b")
    (tmp_path / "named").symlink_to("own")  # the folder itself may be a link
    pack(tmp_path / "named", tmp_path / "packed.zip", ["x.jpg", "linked/c.png"])
    assert contents(tmp_path / "packed.zip") == dict.fromkeys(["x.jpg", "linked/c.png"], IMAGES["b/c.png"])


def test_an_image_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def barred(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    folder = as_folder(tmp_path / "own")
    monkeypatch.setattr(Path, "read_bytes", barred)
    refused(folder, r"own/a\.jpg: cannot be read \(Permission denied\); give access, or remove it")


def test_a_name_that_is_not_utf_8_is_left_out_and_shown_with_escapes(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "own", {**IMAGES, "caf\udce9.jpg": SECRET})
    assert "caf\udce9.jpg" in members(folder)
    pack(folder, tmp_path / "packed.zip", list(IMAGES))
    assert contents(tmp_path / "packed.zip") == IMAGES


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_usual_methods_of_compression_are_read(tmp_path: Path, method: int) -> None:
    pack(as_zip(tmp_path / "a.zip", method=method), tmp_path / "packed.zip", list(IMAGES))
    assert contents(tmp_path / "packed.zip") == IMAGES


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.tgz"])
def test_a_tar_file_is_known_by_its_bytes(tmp_path: Path, mode: str, name: str) -> None:
    pack(as_tar(tmp_path / name, mode=mode), tmp_path / "packed.zip", list(IMAGES))
    assert contents(tmp_path / "packed.zip") == IMAGES


def test_a_tar_file_that_begins_or_ends_like_another_archive_is_a_tar_file(tmp_path: Path) -> None:
    inner = as_zip(tmp_path / "inner.zip").read_bytes()
    for first in ("PK.jpg", "BZh.jpg", "Rar!.jpg", "7z.jpg"):
        source = as_tar(tmp_path / "a.tar", {first: b"x", "z.zip": inner}, "w")
        assert members(source) == [first]


def changed(path: Path, offset: int, value: bytes) -> Path:
    """A zip file with bytes of every header replaced, counted from those of a central one; local ones lack two."""
    data = bytearray(path.read_bytes())
    for sign, start in ((b"PK\1\2", offset), (b"PK\3\4", offset - 2)):
        place = -1
        while (place := data.find(sign, place + 1)) >= 0:
            data[place + start : place + start + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (8, b"\1", r"member 'a\.jpg': encrypted; pack it again without a password"),
        (10, b"\x09", r"member 'a\.jpg': compressed with Deflate64, which is not read; pack it again with Deflate"),
        (10, b"\x62", r"member 'a\.jpg': compressed with PPMd"),
        (10, b"\x13", r"member 'a\.jpg': compressed with method 19"),
        (
            24,
            b"\xf0\xff\xff\x3f",
            r"its members declare 3,2\d\d,\d{3},\d{3} bytes, more than 1,073,741,824 \(100 times",
        ),
    ],
)
def test_a_zip_file_that_cannot_be_read_says_why(tmp_path: Path, offset: int, value: bytes, said: str) -> None:
    refused(changed(as_zip(tmp_path / "a.zip"), offset, value), said)


def test_what_is_not_asked_for_may_be_encrypted(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "a.zip")
    data = bytearray(source.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1  # of d.gif
    source.write_bytes(data)
    pack(source, tmp_path / "packed.zip", ["a.jpg"])
    assert contents(tmp_path / "packed.zip") == {"a.jpg": IMAGES["a.jpg"]}


def test_a_member_that_declares_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST", 100)
    monkeypatch.setattr("captioning.system.archives.RATIO", 10**6)
    for source in (as_zip(tmp_path / "a.zip"), as_tar(tmp_path / "a.tar")):
        refused(source, r"member 'a\.jpg': it declares 450 bytes, more than 100; remove it from the archive")


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Members of 900 MB each in a kilobyte, as they declare it; in the tar file, zeros that really are there."""
    source = changed(as_zip(tmp_path / "a.zip"), 24, struct.pack("<I", 900_000_000))
    refused(source, r"its members declare 2,700,000,000 bytes")
    header = tarfile.TarInfo("notes.txt")
    header.size = 5 << 30
    with gzip.open(tmp_path / "a.tar.gz", "wb") as stream:
        stream.write(header.tobuf())
    refused(tmp_path / "a.tar.gz", r"its members declare 5,368,709,120 bytes, more than 1,073,741,824")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_that_declares_too_much_is_refused(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 3 << 30
    (tmp_path / "a.tar").write_bytes(header.tobuf() + bytes(1024))
    refused(tmp_path / "a.tar", r"damaged \(a header declares 3,221,225,472 bytes\)")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"Rar!\x1a\x07\x01\x00" + bytes(90), "its format is RAR, whatever its name; pack the images as zip or tar"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(90), "its format is 7z"),
        (b"\x28\xb5\x2f\xfd" + bytes(90), "its format is Zstandard"),
        (b"<html>", "missing, cut short or damaged"),
        (b"", "missing, cut short or damaged"),
    ],
)
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_what_is_no_zip_or_tar_file_is_named_by_its_format(tmp_path: Path, data: bytes, said: str, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, said)


def test_backslashes_are_read_as_slashes(tmp_path: Path) -> None:
    """As PowerShell's Compress-Archive wrote them, with its folders."""
    source = as_zip(tmp_path / "a.zip", {"sub\\": b"", "sub\\a.jpg": b"1", "sub\\deep\\b.jpg": b"2"})
    assert members(source) == ["sub/a.jpg", "sub/deep/b.jpg"]
    pack(source, tmp_path / "packed.zip", members(source))
    assert contents(tmp_path / "packed.zip") == {"sub/a.jpg": b"1", "sub/deep/b.jpg": b"2"}


@pytest.mark.parametrize(
    "name", ["..\\x\x1b[31m.jpg", "../x\x1b[31m.jpg", "../\n\u202ex.jpg", "../" + "x" * 900 + ".jpg"]
)
@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_no_message_has_control_characters_or_is_long(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    refused(make(tmp_path / "a", {**IMAGES, name: b"x"}), "leads outside the archive; do not use this file")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_file_cut_short_anywhere_is_refused(tmp_path: Path, mode: str) -> None:
    """In a header too, where the library takes the rest for the end."""
    whole = as_tar(tmp_path / "a.tar", mode="w").read_bytes()
    compress = {"w": bytes, "w:gz": gzip.compress, "w:bz2": bz2.compress, "w:xz": lzma.compress}[mode]
    for length in (100, 700, 1024 + 100, 2048 + 300):
        data = compress(whole[:length]) if length % 1024 else compress(whole)[:length]
        (tmp_path / "a.tar").write_bytes(data)
        refused(tmp_path / "a.tar", r"a\.tar: missing, cut short or damaged \(.+\); pack or copy it again")


def test_a_compressed_tar_file_is_compared_with_its_checksum(tmp_path: Path) -> None:
    data = bytearray(as_tar(tmp_path / "a.tar.gz").read_bytes())
    data[-6] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(data)
    refused(tmp_path / "a.tar.gz", r"damaged \(CRC check failed")


def made(make: Callable[[Path], Path], folder: Path) -> bytes:
    return make(folder / "whole").read_bytes()


WHOLE: dict[str, Callable[[Path], Path]] = {
    **{f"zip {method}": lambda path, method=method: as_zip(path, method=method) for method in (0, 8, 12, 14)},  # type: ignore[misc]
    **{f"tar {mode}": lambda path, mode=mode: as_tar(path, mode=mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")},  # type: ignore[misc]
}


@pytest.mark.parametrize("kind", WHOLE)
@examples(60)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """And no member of a zip file is other than it was, for its checksum would not be right."""
    folder = tmp_path_factory.mktemp("damaged")
    source = folder / "a.zip"
    source.write_bytes(data.draw(damaged(made(WHOLE[kind], folder))))
    try:
        named = members(source)
        pack(source, folder / "packed.zip", named)
    except UserError as fault:
        assert str(fault).isprintable()  # noqa: PT017
        assert not (folder / "packed.zip").exists()
    else:
        packed = contents(folder / "packed.zip")
        assert sorted(packed) == named
        if kind.startswith("zip"):
            assert set(packed.values()) <= set(IMAGES.values())


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, order in (("one", 1), ("two", -1)):
        source = as_zip(tmp_path / f"{name}.zip", dict(list(IMAGES.items())[::order]))
        pack(source, tmp_path / f"{name}.packed.zip", list(IMAGES)[::order])
    write_zip(tmp_path / "written.zip", sorted(IMAGES.items()))
    expected = (tmp_path / "written.zip").read_bytes()
    assert [(tmp_path / f"{name}.packed.zip").read_bytes() for name in ("one", "two")] == [expected] * 2


def test_a_damaged_zip_file_of_the_project_is_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(as_zip(tmp_path / "whole.zip").read_bytes()[:-30])
    with pytest.raises(UserError, match="delete it and run `dvc repro download`"):
        Archive(tmp_path / "a.zip")

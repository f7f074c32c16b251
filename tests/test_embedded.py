"""Captions in the metadata of image files: the picture, and all else that the file says, stay as they were."""

import errno
import io
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import exiv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageSequence, PngImagePlugin
from typer.testing import CliRunner

from captioning.cli import embedded
from captioning.cli.app import app
from captioning.cli.embedded import UnwritableError
from captioning.cli.jpeg_segments import PicturesLostError, segments
from captioning.system.errors import UserError
from tests.imports import ROOT

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NOTE = b"SomeCamera\0\1\2\3" * 9  # of a maker that no library knows
CAPTION, ABROAD = "a dog runs", "ein Hund läuft über 草"


def noise(mode: str = "RGB", seed: int = 0) -> Image.Image:
    draw = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(draw.integers(0, 2**16, (40, 60), dtype=np.uint16))
    return Image.fromarray(draw.integers(0, 256, (40, 60, 3), dtype=np.uint8)).convert(mode)


def told() -> Image.Exif:
    """What a camera says."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8298] = "Maker", 6, "me"
    exif.get_ifd(0x8769).update({0x9003: "2020:01:02 03:04:05", 0x927C: NOTE})
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def file(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    if kind == "TIFF":
        noise(mode).save(stream, kind, icc_profile=PROFILE, **options)
        return changed(stream.getvalue(), _tell)
    noise(mode).save(stream, kind, icc_profile=PROFILE, exif=told(), **options)
    return stream.getvalue()


def _tell(image: Any) -> None:
    """What a camera says in TIFF, where Pillow writes less."""
    exif = image.exifData()
    exif["Exif.Image.Make"], exif["Exif.Image.Orientation"] = "Maker", exiv2.UShortValue(6)
    exif["Exif.Photo.MakerNote"] = exiv2.DataValue(NOTE)


def texts() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_text("parameters", "masterpiece")
    found.add_itxt("Title", "tüt", zip=True)
    return found


def second() -> dict[str, Any]:
    """Options for a second frame or page. Pillow writes into the image how it was saved, so each has its own."""
    return {"save_all": True, "append_images": [noise(seed=1)]}


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: file("JPEG", comment="a remark"),
    "progressive": lambda: file("JPEG", progressive=True, quality=95),
    "grey": lambda: file("JPEG", "L"),
    "cmyk": lambda: file("JPEG", "CMYK"),
    "several": lambda: file("MPO", **second()),
    "png": lambda: file("PNG", pnginfo=texts(), dpi=(72, 72)),
    "png-16": lambda: file("PNG", "I;16"),
    "png-alpha": lambda: file("PNG", "RGBA"),
    "png-palette": lambda: file("PNG", "P", transparency=3),
    "png-moving": lambda: file("PNG", **second()),
    "webp": lambda: file("WEBP"),
    "webp-lossless": lambda: file("WEBP", "RGBA", lossless=True),
    "webp-moving": lambda: file("WEBP", **second()),
    "tiff": lambda: file("TIFF"),
    "tiff-16": lambda: file("TIFF", "I;16"),
    "tiff-lzw": lambda: file("TIFF", compression="tiff_lzw"),
    "tiff-pages": lambda: file("TIFF", **second()),
}


def frames(content: bytes) -> list[tuple[Any, ...]]:
    found = ImageSequence.Iterator(Image.open(io.BytesIO(content)))
    return [(frame.mode, frame.size, frame.tobytes()) for frame in found]


def tags(content: bytes) -> dict[Any, Any]:
    """All of Exif but the description, and but where in the file something is."""
    exif = Image.open(io.BytesIO(content)).getexif()
    outer = {("main", key): value for key, value in exif.items() if key not in (0x010E, 0x8769, 0x8825, 0x0111, 0x02BC)}
    inner = {(ifd, key): value for ifd in (0x8769, 0x8825) for key, value in exif.get_ifd(ifd).items()}
    return outer | inner


def opened(content: bytes) -> Any:
    image = exiv2.ImageFactory.open(content)
    image.readMetadata()
    return image


def changed(content: bytes, change: Callable[[Any], None]) -> bytes:
    """A file after a change by libexiv2."""
    image = opened(content)
    change(image)
    image.writeMetadata()
    stream = image.io()
    stream.open()
    return bytes(stream.mmap())


def described(content: bytes) -> dict[str, str]:
    image = opened(content)
    data = (*image.exifData(), *image.iptcData(), *image.xmpData())
    found = {datum.key(): datum.toString() for datum in data}
    wanted = ("Exif.Image.ImageDescription", "Iptc.Application2.Caption", "Xmp.dc.description")
    return {key.rpartition(".")[2]: found[key] for key in wanted if key in found}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("caption", [CAPTION, ABROAD])
def test_only_the_description_changes(name: str, caption: str, tmp_path: Path) -> None:
    before = FILES[name]()
    path = tmp_path / "image"
    path.write_bytes(before)
    assert not embedded.unable([path])
    assert not embedded.is_described(path)
    for _ in range(2):  # the second time, in place of the first
        embedded.write(path, caption)
        after = path.read_bytes()
        assert described(after) == {"ImageDescription": caption, "description": f'lang="x-default" {caption}'}
        assert frames(after) == frames(before)
        assert tags(after) == tags(before)
        assert tags(after)[0x8769, 0x927C] == NOTE
        old, new = (Image.open(io.BytesIO(content)).info for content in (before, after))
        assert {key: value for key, value in new.items() if key in old and key != "exif"} == {
            key: value for key, value in old.items() if key != "exif"
        }
        assert new["icc_profile"] == PROFILE
    assert embedded.is_described(path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_segments_of_a_jpeg_file_stay_byte_for_byte() -> None:
    before = FILES["several"]()
    after = embedded.with_caption(before, CAPTION)

    def others(content: bytes) -> list[bytes]:
        return [one.content for one in segments(content) if not one.is_any(b"Exif", b"http://ns.adobe.com/")]

    assert others(after) == others(before)
    assert any(one.is_any(b"MPF\0") for one in segments(after))
    assert len(list(segments(after))) == len(list(segments(before))) + 1  # XMP


def test_further_pictures_that_would_be_lost_are_kept() -> None:
    parts = list(segments(FILES["several"]()))
    packet = b"http://ns.adobe.com/xap/1.0/\0" + b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    late = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
    end = parts[-1].begin + len(parts[-1].content)
    content = FILES["several"]()
    with pytest.raises(PicturesLostError):
        embedded.with_caption(content[:end] + late + content[end:], CAPTION)
    stream = io.BytesIO()
    noise().save(stream, "TIFF", save_all=True, append_images=[noise(seed=seed) for seed in range(6)])
    with pytest.raises(PicturesLostError):  # libexiv2 keeps four
        embedded.with_caption(stream.getvalue(), CAPTION)


def test_the_note_of_a_known_maker_stays() -> None:
    def photograph(image: Any) -> None:
        exif = image.exifData()
        exif["Exif.Image.Make"], exif["Exif.Image.Model"] = "Canon", "Canon EOS 5D"
        exif["Exif.Canon.OwnerName"], exif["Exif.Canon.ModelID"] = "Ann", exiv2.ULongValue(2147484179)
        exif["Exif.CanonCs.Lens"] = exiv2.UShortValue([105, 24, 1])

    stream = io.BytesIO()
    noise().save(stream, "JPEG")
    before = changed(stream.getvalue(), photograph)
    after = embedded.with_caption(before, CAPTION)

    def notes(content: bytes) -> dict[str, str]:
        moved = ("Exif.MakerNote.Offset", "Exif.Photo.MakerNote", "Exif.Image.ExifTag")
        found = {datum.key(): datum.toString() for datum in opened(content).exifData() if datum.key() not in moved}
        return {key: value for key, value in found.items() if key != "Exif.Image.ImageDescription"}

    assert notes(after) == notes(before)
    assert notes(after)["Exif.Canon.OwnerName"] == "Ann"


def test_descriptions_in_other_languages_and_all_other_fields_stay() -> None:
    def tell(image: Any) -> None:
        image.xmpData()["Xmp.dc.description"] = exiv2.LangAltValue({"x-default": "old", "de-DE": "ein Hund"})
        image.xmpData()["Xmp.xmp.Rating"] = "4"
        image.iptcData()["Iptc.Application2.City"] = "Köln"

    image = opened(embedded.with_caption(changed(FILES["jpeg"](), tell), ABROAD))
    texts = dict(image.xmpData()["Xmp.dc.description"].value().items())
    assert texts == {"x-default": ABROAD, "de-DE": "ein Hund"}
    assert image.xmpData()["Xmp.xmp.Rating"].toString() == "4"
    assert image.iptcData()["Iptc.Application2.City"].toString() == "Köln"
    assert image.iptcData()["Iptc.Application2.Caption"].toString() == ABROAD
    assert image.iptcData()["Iptc.Envelope.CharacterSet"].toString() == "\x1b%G"


def test_iptc_in_another_encoding_takes_only_what_it_can_hold() -> None:
    content = changed(FILES["jpeg"](), lambda image: image.iptcData().__setitem__("Iptc.Application2.City", "Koeln"))
    assert content.count(b"Koeln") == 1
    latin = content.replace(b"Koeln", "Köln.".encode("latin-1"))
    assert described(embedded.with_caption(latin, CAPTION))["Caption"] == CAPTION
    assert "Köln.".encode("latin-1") in embedded.with_caption(latin, CAPTION)
    with pytest.raises(ValueError, match="IPTC data is not in UTF-8"):
        embedded.with_caption(latin, ABROAD)


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("Exif.Image.ImageDescription", "my dog", True),
        ("Exif.Image.ImageDescription", "a person with a DIGITAL CAMERA", True),
        ("Exif.Image.ImageDescription", "OLYMPUS DIGITAL CAMERA         ", False),
        ("Exif.Image.ImageDescription", "KODAK DIGITAL STILL CAMERA", False),
        ("Exif.Image.ImageDescription", "SONY DSC", False),
        ("Exif.Image.ImageDescription", "DCIM\\100MEDIA\\DJI_0001.JPG", False),
        ("Exif.Image.ImageDescription", "          ", False),
        ("Xmp.dc.description", "my dog", True),
        ("Iptc.Application2.Caption", "my dog", True),
        ("Iptc.Application2.City", "Ulm", False),
    ],
)
def test_what_is_a_description(tmp_path: Path, key: str, text: str, says: bool) -> None:
    data = {"Exif": "exifData", "Xmp": "xmpData", "Iptc": "iptcData"}[key.partition(".")[0]]
    content = changed(FILES["jpeg"](), lambda image: getattr(image, data)().__setitem__(key, text))
    path = tmp_path / os.fsdecode(b"not UTF-8 \xe9.jpg")
    path.write_bytes(content)
    assert embedded.is_described(path) is says


def damaged(content: bytes, count: int) -> Iterator[bytes]:
    draw, head = random.Random(7), content.index(b"Exif\0\0")
    for _ in range(count):
        wrong = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            wrong[head + draw.randrange(250)] = draw.randrange(256)
        yield bytes(wrong)


def test_damaged_metadata_is_written_whole_or_refused(tmp_path: Path) -> None:
    path, refused = tmp_path / "a.jpg", 0
    for content in damaged(FILES["jpeg"](), 300):
        path.write_bytes(content)
        try:
            embedded.write(path, CAPTION)
        except UnwritableError:
            refused += 1
            assert path.read_bytes() == content
        else:
            assert frames(path.read_bytes()) == frames(content)
            keys = [{datum.key() for datum in opened(one).exifData()} for one in (content, path.read_bytes())]
            assert keys[0] <= keys[1]
    assert 30 < refused < 270
    packet = embedded.with_caption(FILES["jpeg"](), CAPTION).replace(b"<dc:description>", b"<dc description>")
    with pytest.raises(ValueError, match="damaged"):
        embedded.with_caption(packet, CAPTION)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES["jpeg"]())

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"a\.jpg: cannot be written .*No space left"):
        embedded.write(path, CAPTION)
    monkeypatch.undo()
    assert path.read_bytes() == FILES["jpeg"]()
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link_and_rights_stay(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    place, link = tmp_path / "far/a.jpg", tmp_path / "b.jpg"
    place.write_bytes(FILES["jpeg"]())
    place.chmod(0o640)
    os.utime(place, (1, 1))
    link.symlink_to(place)
    embedded.write(link, CAPTION)
    assert link.is_symlink()
    assert embedded.is_described(place)
    assert place.stat().st_mode & 0o777 == 0o640
    assert place.stat().st_mtime > 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_protected_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES["jpeg"]())
    path.chmod(0o400)
    with pytest.raises(UnwritableError, match="write-protected"):
        embedded.write(path, CAPTION)


def predict(*arguments: str) -> Any:
    return CliRunner().invoke(
        app, ["predict", "--model", "photographs", "--threads", "1", "--write", "exif", *arguments]
    )


def test_a_folder_of_many_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("camera.jpg", "cat.jpg"):
        (tmp_path / name).write_bytes((ROOT / "docs/photographs" / name).read_bytes())
    own = changed(
        (tmp_path / "cat.jpg").read_bytes(), lambda i: i.exifData().__setitem__("Exif.Image.ImageDescription", "Tom")
    )
    (tmp_path / "cat.jpg").write_bytes(own)
    (tmp_path / "broken.jpg").write_bytes(FILES["jpeg"]().replace(b"Exif\0\0MM", b"Exif\0\0XX"))
    noise().save(tmp_path / "a.gif")
    before = (tmp_path / "camera.jpg").read_bytes()
    done = predict(".")
    assert done.exit_code == 1
    assert "--write exif: 1 of 4 files are of formats that it cannot write (a.gif); --write xmp can" in done.stderr
    assert "1 of 4 files have their captions already" in done.stderr
    assert "error: broken.jpg: no caption is written into it, and it stays as it was (" in done.stderr
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(said) == ["a.gif", "broken.jpg", "camera.jpg"]
    assert described((tmp_path / "camera.jpg").read_bytes())["ImageDescription"] == said["camera.jpg"]
    assert frames((tmp_path / "camera.jpg").read_bytes()) == frames(before)
    assert (tmp_path / "cat.jpg").read_bytes() == own
    done = predict("cat.jpg", "--overwrite")
    assert done.exit_code == 0
    assert described((tmp_path / "cat.jpg").read_bytes())["ImageDescription"] == done.stdout.strip().split("\t")[1]


def test_what_can_never_be_written_is_told_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    noise().save(tmp_path / "a.gif")
    pillow_heif.from_pillow(noise()).save(tmp_path / "b.heic")
    (tmp_path / "c.jpg").write_bytes(FILES["jpeg"]())
    assert embedded.unable([Path("a.gif"), Path("b.heic"), Path("c.jpg")]) == [Path("a.gif"), Path("b.heic")]
    assert str(predict("a.gif", "b.heic").exception) == (
        "--write exif: 2 of 2 files are of formats that it cannot write (a.gif, b.heic); --write xmp can"
    )
    monkeypatch.setitem(sys.modules, "exiv2", None)
    assert "pip install 'captioning[exif]'" in str(predict("a.gif").exception)

"""Captions in the metadata of the image files themselves, by libexiv2; the picture is not encoded again.

The caption is Exif's ImageDescription (CIPA DC-008, tag 270), XMP's `dc:description`, and, if the image has IPTC data,
IPTC's Caption/Abstract (IIM 4.2, dataset 2:120): all in UTF-8, as the Metadata Working Group's guidelines have it.
"""

import io
import itertools
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioning.cli.jpeg_segments import PicturesLostError, with_metadata
from captioning.cli.places import written
from captioning.system.errors import UserError, reason
from captioning.system.files import atomic

if TYPE_CHECKING:
    from PIL import Image

_EXIF, _IPTC, _XMP = "Exif.Image.ImageDescription", "Iptc.Application2.Caption", "Xmp.dc.description"
_CHARACTERS, _UTF8 = "Iptc.Envelope.CharacterSet", "\x1b%G"
_DEFAULT = "x-default"
_BY_CAMERAS = re.compile(r"([A-Z]+ ){0,2}DIGITAL( STILL)? CAMERA|SONY DSC|DCIM[\\/]\S*|default")  # put there unasked


class UnwritableError(UserError):
    """An image whose metadata cannot take a caption without a loss."""

    def __init__(self, image: Path, why: str) -> None:
        super().__init__(f"{image}: no caption is written into it, and it stays as it was ({why}); use --write xmp")


def unable(images: Sequence[Path]) -> list[Path]:
    """The images of formats that libexiv2 cannot write. Raises UserError without the extra."""
    return [image for image in images if not _can_hold(image)]


def is_described(image: Path) -> bool:
    """Does an image's metadata describe it already? What cameras put there unasked is no description."""
    try:
        with _errors():
            return _is_description(_opened(image))
    except _library().Exiv2Error:
        return False  # decoding it, or writing into it, tells what is wrong


def write(image: Path, caption: str) -> None:
    """Write the caption into an image, in place of its description; the picture and all else that it says stay.

    Raises UnwritableError where something would be lost, and UserError when it cannot be done: the file is untouched.
    """
    place = image.resolve()  # a link stays a link
    with written("--write", image):
        if not os.access(place, os.W_OK):
            raise UnwritableError(image, "it is write-protected")
        content = place.read_bytes()
    try:
        described = with_caption(content, caption)
    except (ValueError, _library().Exiv2Error) as fault:
        raise UnwritableError(image, getattr(fault, "message", "") or reason(fault)) from None
    with written("--write", image), atomic(place) as temporary:
        temporary.write_bytes(described)
        shutil.copystat(place, temporary)
        os.utime(temporary)


def with_caption(content: bytes, caption: str) -> bytes:
    """An image file with the caption in its metadata. Raises ValueError or Exiv2Error where something would be lost."""
    with _errors() as errors:
        image = _opened(content)
        if errors:
            raise ValueError(f"its metadata is damaged: {errors[0]}")
        keys = {datum.key() for datum in image.exifData()}
        _describe(image, caption)
        image.writeMetadata()
        described = _bytes(image)
        if not keys <= {datum.key() for datum in _opened(described).exifData()}:
            raise ValueError("its metadata is damaged")
    if content[:2] == b"\xff\xd8":
        return with_metadata(content, described)
    if not _are_the_same(content, described):
        raise PicturesLostError
    return described


def _describe(image: Any, caption: str) -> None:
    exiv2 = _library()
    texts = _xmp_descriptions(image) | {_DEFAULT: caption}
    image.exifData()[_EXIF] = caption
    image.xmpData()[_XMP] = exiv2.LangAltValue(texts)
    iptc = image.iptcData()
    if iptc.empty():
        return
    if not caption.isascii():
        if iptc.detectCharset() not in ("ASCII", "UTF-8"):
            raise ValueError("its IPTC data is not in UTF-8, as this caption would be")
        iptc[_CHARACTERS] = _UTF8
    iptc[_IPTC] = caption


def _is_description(image: Any) -> bool:
    own = [datum.toString() for data, key in ((image.exifData(), _EXIF), (image.iptcData(), _IPTC)) for datum in data
           if datum.key() == key]  # fmt: skip
    texts = [text.strip("\0 \t\r\n") for text in (*own, *_xmp_descriptions(image).values())]
    return any(text and not _BY_CAMERAS.fullmatch(text) for text in texts)


def _xmp_descriptions(image: Any) -> dict[str, str]:
    """The texts of `dc:description` by language."""
    for datum in image.xmpData():
        if datum.key() == _XMP:
            value = datum.value()
            return dict(value.items()) if isinstance(value, _library().LangAltValue) else {_DEFAULT: value.toString()}
    return {}


def _can_hold(image: Path) -> bool:
    exiv2 = _library()
    if not image.is_file():  # a pipe
        return False
    kind = exiv2.ImageFactory.getType(_named(image))
    wanted = exiv2.AccessMode.ReadWrite
    return all(
        exiv2.ImageFactory.checkMode(kind, data) == wanted for data in (exiv2.MetadataId.Exif, exiv2.MetadataId.Xmp)
    )


def _named(image: Path) -> str | bytes:
    """What libexiv2 opens: an absolute path, which is never an address, or, where it is not UTF-8, the content."""
    path = str(image.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        return image.read_bytes()
    return path


def _opened(source: Path | bytes) -> Any:
    image = _library().ImageFactory.open(_named(source) if isinstance(source, Path) else source)
    image.readMetadata()
    return image


def _bytes(image: Any) -> bytes:
    stream = image.io()
    stream.open()
    content = bytes(stream.mmap())
    stream.munmap()
    return content


def _are_the_same(before: bytes, after: bytes) -> bool:
    """Do two files have the same pixels, in all of their frames or pages?"""
    from PIL import Image, ImageSequence

    try:
        with warnings.catch_warnings(action="ignore"):
            pages = (ImageSequence.Iterator(Image.open(io.BytesIO(content))) for content in (before, after))
            return all(itertools.starmap(_is_the_same, zip(*pages, strict=True)))
    except Exception:  # what Pillow's plugins raise on pages that lead nowhere
        return False


def _is_the_same(one: "Image.Image", other: "Image.Image") -> bool:
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


@contextmanager
def _errors() -> Iterator[list[str]]:
    """What libexiv2 calls errors within the block; it prints nothing."""
    errors: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            errors.append(record.getMessage())
        return False

    logger = logging.getLogger("exiv2")
    logger.addFilter(keep)
    try:
        yield errors
    finally:
        logger.removeFilter(keep)


def _library() -> Any:
    """libexiv2. Raises UserError without the extra."""
    try:
        import exiv2
    except ModuleNotFoundError:
        raise UserError("--write exif needs an extra: pip install 'captioning[exif]'") from None
    return exiv2

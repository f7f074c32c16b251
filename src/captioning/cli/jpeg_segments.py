"""The segments of a JPEG file: its metadata is exchanged, and every other byte stays (ISO/IEC 10918-1, annex B)."""

from collections.abc import Iterator
from typing import NamedTuple

_EXIF, _XMP, _IPTC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_PICTURES = b"MPF\0"  # CIPA DC-007: where further pictures begin, counted from this segment
_SCAN, _JFIF = 0xDA, 0xE0
_HEADER = 4  # bytes of a segment before its content: marker and length


class PicturesLostError(ValueError):
    """A file of several pictures that a longer head would leave out of reach."""

    def __init__(self) -> None:
        super().__init__("some of the several pictures in it would be lost")


class Segment(NamedTuple):
    """The marker of a segment, its whole bytes, and where they begin."""

    marker: int
    content: bytes
    begin: int

    def is_any(self, *names: bytes) -> bool:
        """Does its content begin with one of the names?"""
        return self.content[_HEADER:].startswith(names)


def with_metadata(before: bytes, after: bytes) -> bytes:
    """The file `before` with the Exif, XMP and IPTC segments of `after`.

    They come first, after JFIF's. Raises PicturesLostError, and ValueError where segments are damaged.
    """
    old, new = list(segments(before)), list(segments(after))
    names = [name for name in (_EXIF, _XMP, _IPTC) if any(one.is_any(name) for one in new)]
    head = [one.content for one in old if one.marker == _JFIF]
    rest = [one.content for one in old if one.marker != _JFIF and not one.is_any(*names)]
    metadata = [one.content for one in new if one.is_any(*names)]
    scan = old[-1].begin + len(old[-1].content) if old else 2
    made = b"".join([before[:2], *head, *metadata, *rest, before[scan:]])
    if _distance(before) != _distance(made):
        raise PicturesLostError
    return made


def segments(content: bytes) -> Iterator[Segment]:
    """The segments ahead of the first scan. Raises ValueError where they are damaged."""
    at = 2
    while content[at : at + 2] and content[at + 1] != _SCAN:
        length = int.from_bytes(content[at + 2 : at + _HEADER], "big")
        end = at + 2 + length
        if content[at] != 0xFF or length < 2 or end > len(content):
            raise ValueError("its segments are damaged")
        yield Segment(content[at + 1], content[at:end], at)
        at = end


def _distance(content: bytes) -> int | None:
    """From the list of further pictures, if there is one, to the end of the file."""
    return next((len(content) - one.begin for one in segments(content) if one.is_any(_PICTURES)), None)

"""Images of a folder or an archive become a zip file: those that are asked for, and no other byte."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from captioning.system.archives import (
    FAULTS,
    LARGEST,
    PACK_AGAIN,
    Archive,
    check_format,
    check_inside,
    check_size,
    check_total,
    first_bytes,
    unreadable,
    write_zip,
)
from captioning.system.errors import UserError, reason, shown
from captioning.system.files import copy
from captioning.system.image_names import SUFFIXES, is_image, tidy

_EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)  # members of a tar file that are read whole, for they describe others
_TAR = slice(257, 262)  # where a tar file says what it is
_REST = 1 << 20  # bytes behind the end mark that are read, so that a checksum at the end is compared


def members(source: Path) -> list[str]:
    """The images in a folder, at any depth, or in an archive, sorted; what systems leave there is none.

    Links to folders are not followed. Raises UserError as `pack` does.
    """
    if source.is_dir():
        return _listed(source)
    with _told(source):
        if _is_zip(source):
            with Archive(source, PACK_AGAIN) as archive:
                return [name for name in archive.names() if is_image(name)]
        return sorted(name for name, _ in _tar_entries(source))


def pack(source: Path, target: Path, names: Collection[str] | None = None) -> None:
    """Write the images of `source` to the zip file `target`, which can be read in place.

    source: a folder (its images sorted by path), a zip file (likewise), or a tar file, compressed or not (in the order
    of the file, one image in memory at a time). The same source gives the same bytes.
    names: of the images that are packed, of those that `members` gives; in a folder also through a link to a folder.
    Without them, all are packed, and a zip file is copied as it is.
    Raises UserError when the source is missing, damaged, has no image, or one whose path leads outside it.
    """
    if source.is_dir():
        images = _folder_images(source, sorted(members(source) if names is None else names))
    elif not _is_zip(source):
        images = _tar_images(source, names)
    elif names is None:
        return copy(source, target)
    else:
        images = _zip_images(source, sorted(names))
    return write_zip(target, _whole(images, source))


def _is_zip(path: Path) -> bool:
    """By its first bytes; where those say nothing, by its last ones."""
    check_format(path)
    first = first_bytes(path, _TAR.stop)
    if _opener(first) is not open or first[_TAR] == b"ustar":
        return False
    return first.startswith((b"PK\x03\x04", b"PK\x05\x06")) or zipfile.is_zipfile(path)


def _opener(first: bytes) -> Callable[..., Any]:
    """What reads a tar file that begins so."""
    if first.startswith(b"\x1f\x8b\x08"):
        return gzip.open
    if first.startswith((b"\xfd7zXZ\0", b"\x5d\0\0\x80")):
        return lzma.open
    return bz2.open if first.startswith(b"BZh") and first[4:10] == b"1AY&SY" else open


def _listed(folder: Path) -> list[str]:
    paths = (Path(place) / file for place, _, files in os.walk(folder) for file in files)
    names = (path.relative_to(folder).as_posix() for path in paths if path.is_file())
    return sorted(filter(is_image, names))


def _folder_images(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, _read_inside(folder, folder / name)


def _read_inside(folder: Path, path: Path) -> bytes:
    check_link(folder, path)
    try:
        return path.read_bytes()
    except OSError as fault:
        raise UserError(f"{shown(path)}: cannot be read ({fault.strerror}); give access, or remove it") from fault


def check_link(folder: Path, path: Path) -> None:
    """Raise UserError for a file of the folder that is in truth outside it: it might be anything of the user's."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{shown(path)}: a link that leads out of the folder, and is not followed; copy the file there")


def _zip_images(path: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    with Archive(path, PACK_AGAIN) as archive:
        for name in names:
            yield name, archive.read(name)


def _tar_images(path: Path, names: Collection[str] | None) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for name, content in _tar_entries(path):
        if names is not None and name not in names:
            continue
        if name in seen:
            raise UserError(f"{path}: member '{shown(name)}' is there twice; pack it once")
        seen.add(name)
        yield name, content.read()


def _tar_entries(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each image, in the order of the file; folders, links and devices are no images."""
    total = 0
    with (
        _opener(first_bytes(path))(path, "rb") as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as archive,
    ):
        for entry in archive:
            total += entry.size
            check_total(path, total)
            if not (entry.isfile() and is_image(entry.name)):
                continue
            check_inside(path, entry.name)
            check_size(f"{path}, member '{shown(entry.name)}'", entry.size)
            content = archive.extractfile(entry)
            assert content is not None
            yield tidy(entry.name), content
        stream.read(_REST)


class _Entry(tarfile.TarInfo):
    """A member of a tar file. A header that is damaged or cut short is an error, and never the end of the file."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as fault:
            raise tarfile.ReadError(reason(fault)) from fault

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        if entry.size < 0 or (entry.type in _EXTENSIONS and entry.size > LARGEST):
            raise tarfile.ReadError(f"a header declares {entry.size:,} bytes")
        return entry


def _whole(images: Iterable[tuple[str, bytes]], source: Path) -> Iterator[tuple[str, bytes]]:
    """The images, if all of them can be read and there is one."""
    count = 0
    with _told(source):
        for count, image in enumerate(images, start=1):  # noqa: B007 - counted
            yield image
    if not count:
        raise UserError(f"{source}: no images there ({' '.join(sorted(SUFFIXES))})")


@contextmanager
def _told(source: Path) -> Iterator[None]:
    """Raise UserError, naming the user's own archive, for whatever its library raises."""
    try:
        yield
    except UserError:
        raise
    except FAULTS as fault:
        raise unreadable(str(source), fault, PACK_AGAIN) from fault

"""Zip archives of images: read in place, never unpacked; written with the same bytes every time."""

import lzma
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from captioning.system.errors import UserError, reason, shown
from captioning.system.files import atomic
from captioning.system.image_names import is_litter, leads_outside, tidy

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
_UNIX, _REGULAR_FILE = 3, 0o100644
FAULTS = (  # of the libraries that read archives, on files that are damaged
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(OSError, RuntimeError, ValueError, ArithmeticError, LookupError, MemoryError),
)
_ENCRYPTED = 1  # of the flags of a member
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd"}  # that are not read
_OTHERS = {b"Rar!\x1a": "RAR", b"7z\xbc\xaf": "7z", b"\x28\xb5\x2f\xfd": "Zstandard"}  # first bytes → format
LARGEST = 1 << 30  # bytes that a member may have
RATIO = 100  # the members together may have so many times the bytes of the archive; `LARGEST` in any case

DOWNLOAD_AGAIN = "delete it and run `dvc repro download`"
PACK_AGAIN = "pack or copy it again"


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write `(name, data)` pairs to a zip file, stored, in the order given. Same members, same bytes."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _REGULAR_FILE << 16
            archive.writestr(entry, data)


class Archive:
    """A zip file, read in place. Threads may read at the same time.

    remedy: what to do about a damaged one; a user's own file is not deleted.
    Raises UserError when it is missing, cut short or damaged, when a member's path leads outside it, or when the
    members declare so many bytes that only an attack would.
    """

    def __init__(self, path: Path, remedy: str = DOWNLOAD_AGAIN) -> None:
        self.path = path
        self._remedy = remedy
        self._lock = threading.Lock()
        check_format(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except FAULTS as fault:
            raise unreadable(str(path), fault, remedy) from fault
        try:
            entries = self._zip.infolist()
            for entry in entries:
                check_inside(path, entry.filename)
            check_total(path, sum(entry.file_size for entry in entries))
        except UserError:
            self.close()
            raise
        files = {tidy(entry.filename): entry for entry in entries if _is_content(entry)}
        self._files = dict(sorted(files.items()))

    def names(self) -> list[str]:
        """The members that are files, sorted, with `/` between folders, without what systems leave there."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """The bytes of a member, checked against its CRC.

        Raises UserError, naming archive and member, when it is missing, damaged, encrypted, too large, or compressed
        in a way that is not read.
        """
        if name not in self._files:
            raise UserError(f"{self.path}: it has no member '{shown(name)}'; {self._remedy}")
        place, entry = f"{self.path}, member '{shown(name)}'", self._files[name]
        _check_readable(place, entry)
        try:
            with self._lock:
                return self._zip.read(entry)
        except FAULTS as fault:
            raise unreadable(place, fault, self._remedy) from fault

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self.close()


class ImageArchives:
    """Images by the `file` column of the caption table: `ARCHIVE.zip/member/path.jpg`, the archive under `root`.

    Archives are opened when first read from and stay open. Threads may read at the same time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._open: dict[str, Archive] = {}

    def read(self, file: str) -> bytes:
        """The bytes of an image, as they are in the archive. Raises UserError as `Archive` does."""
        name, _, member = file.partition("/")
        with self._lock:
            if name not in self._open:
                self._open[name] = Archive(self.root / name)
        return self._open[name].read(member)

    def archives(self, files: Iterable[str]) -> list[Path]:
        """The archives that these images are in, sorted."""
        return sorted({self.root / file.partition("/")[0] for file in files})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        for archive in self._open.values():
            archive.close()


def _is_content(entry: zipfile.ZipInfo) -> bool:
    return not (entry.filename.endswith(("/", "\\")) or is_litter(entry.filename))


def _check_readable(place: str, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise UserError(f"{place}: encrypted; pack it again without a password")
    if entry.compress_type not in _READ:
        method = _METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        raise UserError(f"{place}: compressed with {method}, which is not read; pack it again with Deflate")
    check_size(place, entry.file_size)


def check_format(path: Path) -> None:
    """Raise UserError for a file that is an archive of another kind, whatever its name is."""
    first = first_bytes(path)
    for beginning, kind in _OTHERS.items():
        if first.startswith(beginning):
            raise UserError(f"{path}: its format is {kind}, whatever its name; pack the images as zip or tar.gz")


def first_bytes(path: Path, count: int = 10) -> bytes:
    """The first bytes of a file; none where it cannot be opened, which is said where it is read."""
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError:
        return b""


def check_inside(path: Path, name: str) -> None:
    """Raise UserError for a member's name that leads outside the archive."""
    if leads_outside(name):
        raise UserError(f"{path}: member '{shown(name)}' leads outside the archive; do not use this file")


def check_size(place: str, size: int) -> None:
    """Raise UserError for a member that declares more bytes than any image has."""
    if size > LARGEST:
        raise UserError(f"{place}: it declares {size:,} bytes, more than {LARGEST:,}; remove it from the archive")


def check_total(path: Path, total: int) -> None:
    """Raise UserError where all members together declare far more bytes than the archive has."""
    most = max(LARGEST, RATIO * path.stat().st_size)
    if total > most:
        raise UserError(
            f"{path}: its members declare {total:,} bytes, more than {most:,} ({RATIO} times the archive); "
            "do not use this file, or unpack it by hand"
        )


def unreadable(name: str, fault: BaseException, remedy: str) -> UserError:
    """The error for an archive or a member that a library cannot read."""
    cause = fault.strerror if isinstance(fault, OSError) and fault.strerror else reason(fault)
    return UserError(f"{name}: missing, cut short or damaged ({cause}); {remedy}")

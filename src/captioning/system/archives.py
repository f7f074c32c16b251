"""Zip archives of images: read in place, never unpacked; written with the same bytes every time."""

import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Self

from captioning.system.errors import UserError, reason
from captioning.system.files import atomic, copy

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold
_UNIX, _REGULAR_FILE = 3, 0o100644
_FAULTS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError)
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))  # of images


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write `(name, data)` pairs to a zip file, stored, in the order given. Same members, same bytes."""
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = _UNIX
            entry.external_attr = _REGULAR_FILE << 16
            archive.writestr(entry, data)


def pack(source: Path, target: Path) -> None:
    """Write the images of `source` to the zip file `target`, which can be read in place.

    source: a folder (its images at any depth, sorted by path), a tar file, compressed or not (in the order of the
    file, one image in memory at a time), or a zip file (copied as it is). The same source gives the same bytes.
    Raises UserError when it is missing, damaged, has no image, or has one whose path leads outside it.
    """
    if source.is_dir():
        write_zip(target, _whole(_folder_images(source), source))
    elif zipfile.is_zipfile(source):
        copy(source, target)
    else:
        write_zip(target, _whole(_tar_images(source), source))


def _folder_images(folder: Path) -> Iterator[tuple[str, bytes]]:
    named = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if _is_image(path.name)}
    for name, path in sorted(named.items()):
        if path.is_file():
            yield name, path.read_bytes()


def _tar_images(path: Path) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    with tarfile.open(path, "r|*") as archive:
        for entry in archive:
            name = entry.name.removeprefix("./")
            if not (entry.isfile() and _is_image(PurePosixPath(name).name)):
                continue  # folders, links and devices are no images
            if leads_outside(name) or name in seen:
                problem = "leads outside the archive" if leads_outside(name) else "is there twice"
                raise UserError(f"{path}: member {entry.name!r} {problem}; do not use this file")
            seen.add(name)
            content = archive.extractfile(entry)
            assert content is not None
            yield name, content.read()


def _whole(members: Iterable[tuple[str, bytes]], source: Path) -> Iterator[tuple[str, bytes]]:
    """The members, if all of them can be read and there is one."""
    count = 0
    try:
        for count, member in enumerate(members, start=1):  # noqa: B007 - counted
            yield member
    except _FAULTS as fault:
        raise _unreadable(str(source), fault) from fault
    if not count:
        raise UserError(f"{source}: no images there ({' '.join(sorted(SUFFIXES))})")


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.startswith(".")


def leads_outside(name: str) -> bool:
    """Absolute paths, drive letters, backslashes and `..`: whoever unpacks such a file is harmed."""
    parts = PurePosixPath(name).parts
    return not parts or name.startswith("/") or "\\" in name or ".." in parts or ":" in parts[0]


class Archive:
    """A zip file, read in place. Threads may read at the same time.

    Raises UserError when it is missing, cut short or damaged, or when a member's path leads outside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except _FAULTS as fault:
            raise _unreadable(str(path), fault) from fault
        entries = sorted(self._zip.infolist(), key=lambda entry: entry.filename)
        for entry in entries:
            self._check(entry.filename)
        self._files = {entry.filename: entry for entry in entries if _is_content(entry)}

    def _check(self, name: str) -> None:
        if leads_outside(name):
            self.close()
            raise UserError(f"{self.path}: member {name!r} leads outside the archive; do not use this file")

    def names(self) -> list[str]:
        """The members that are files, sorted, without `__MACOSX/` and dot files."""
        return list(self._files)

    def read(self, name: str) -> bytes:
        """The bytes of a member, checked against its CRC.

        Raises UserError, naming archive and member, when it is missing or damaged.
        """
        if name not in self._files:
            raise UserError(f"{self.path}: it has no member {name!r}; {_REMEDY}")
        try:
            with self._lock:
                return self._zip.read(self._files[name])
        except _FAULTS as fault:
            raise _unreadable(f"{self.path}, member {name!r}", fault) from fault

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


_REMEDY = "delete it here and in download.source, and run `dvc repro download`"


def _is_content(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    return not (entry.is_dir() or path.parts[0] == "__MACOSX" or path.name.startswith("."))


def _unreadable(name: str, fault: Exception) -> UserError:
    cause = fault.strerror if isinstance(fault, OSError) and fault.strerror else reason(fault)
    return UserError(f"{name}: missing, cut short or damaged ({cause}); {_REMEDY}")

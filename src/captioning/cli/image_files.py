"""Which files `captioning predict` captions: those that are named, of folders, of patterns, and of a split.

An image of a split is in an archive: its path is `data/download/ARCHIVE.zip/member/path.jpg`.
"""

import errno
import glob
import io
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from captioning.cli.notices import Notices, name_some, print_lines
from captioning.experiments.commands import project
from captioning.system.errors import UserError, shown
from captioning.system.image_names import SUFFIXES, can_be, is_image, is_litter

if TYPE_CHECKING:
    from captioning.system.archives import Archive

_DOWNLOAD = Path("data/download")


def expand(paths: list[str]) -> tuple[list[Path], bool]:
    """Folders become their images, patterns their matches, sorted, and references those of their images.

    Also whether one of them had none. Raises UserError for a document that is none of references.
    """
    files: list[Path] = []
    failed = False
    for path in paths:
        matches = [Path(path)]
        if Path(path).is_dir():
            matches = _images(Path(path))
        elif Path(path).suffix.lower() == ".json":
            matches = _referenced(Path(path))
        elif glob.has_magic(path) and not Path(path).exists():
            matches = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 - absolute too
        if not matches:
            print_lines([f"error: {path}: no images there ({' '.join(sorted(SUFFIXES))})"])
        files += matches
        failed |= not matches
    return files, failed


def _images(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted; other files are counted on standard error."""
    paths = sorted(_files(folder), key=lambda path: path.replace(os.sep, "\0"))  # a folder's files side by side
    images = [path for path in paths if is_image(path.rpartition(os.sep)[2])]
    of_images = {_stem(path) for path in images} | set(images)
    others = [path for path in paths if not (path in of_images or _is_sidecar(path, of_images))]
    if others and images:
        kinds = sorted({path.suffix.lower() or path.name for path in map(Path, others)})
        print_lines([f"{folder}: {len(others)} of {len(paths)} files are not read, as no images: {name_some(kinds)}"])
    return [Path(path) for path in images]


def _files(folder: Path) -> Iterator[str]:
    """The files in a folder, at any depth, that no system left there. Links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_litter(name)]
        paths = (os.path.join(place, name) for name in names if not is_litter(name))  # noqa: PTH118 - of many
        yield from filter(os.path.isfile, paths)


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def _is_sidecar(path: str, of_images: set[str]) -> bool:
    """Is this the text file or the XMP sidecar of one of the images?"""
    return path.lower().endswith((".txt", ".xmp")) and _stem(path) in of_images


def _referenced(path: Path) -> list[Path]:
    """The images of a document of references, as the stage `split` writes it: they are in the project's archives."""
    try:
        names = [str(image["file_name"]) for image in json.loads(path.read_bytes())["images"]]
    except OSError as fault:
        raise UserError(f"{path}: {fault.strerror}") from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{path}: no images of references in it; name data/split/references_test.json") from None
    if strange := next((name for name in names if not can_be(name)), None):
        raise UserError(f"{path}: {shown(strange)}: no file has such a name; name data/split/references_test.json")
    folder = project() / _DOWNLOAD
    return [(_DOWNLOAD if folder == _DOWNLOAD.absolute() else folder) / name for name in names]


def _archive(path: Path) -> tuple[Path, str] | None:
    """The archive that a path leads into, and the member; None where it leads into none."""
    for above in path.parents:
        if above.suffix.lower() == ".zip" and above.is_file():
            return above, path.relative_to(above).as_posix()
    return None


def exists(path: Path) -> bool:
    """Is there such a file, or an archive that it may be in?"""
    return path.is_file() or _archive(path) is not None


@cache
def _opened(path: Path) -> "Archive":
    from captioning.system.archives import Archive

    return Archive(path)


def content(path: Path) -> Path | io.BytesIO:
    """What `models.sources.read` takes for an image: its path, or its bytes if it is in an archive.

    Raises UserError as `Archive` does.
    """
    if (member := _archive(path)) is None:
        return path
    stream = io.BytesIO(_opened(member[0]).read(member[1]))
    stream.name = str(path)  # for messages
    return stream


def is_there(path: Path, notices: Notices) -> bool:
    """Whether a file can be opened, without opening it: it may be a pipe. An archive is opened later."""
    if _archive(path):
        return True
    try:
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as fault:
        notices.skip(path, fault)
        return False
    return True

"""Which files `captioning predict` captions: those that are named, those of folders, and those that match patterns."""

import errno
import glob
import os
from pathlib import Path

from captioning.cli.notices import Notices, name_some, print_lines
from captioning.system.image_names import SUFFIXES, is_image, is_litter


def expand(paths: list[str]) -> tuple[list[Path], bool]:
    """Folders become their images and patterns their matches, sorted; and whether one of them had none."""
    files: list[Path] = []
    failed = False
    for path in paths:
        matches = [Path(path)]
        if Path(path).is_dir():
            matches = _images(Path(path))
        elif glob.has_magic(path) and not Path(path).exists():
            matches = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 - absolute too
        if not matches:
            print_lines([f"error: {path}: no images there ({' '.join(sorted(SUFFIXES))})"])
        files += matches
        failed |= not matches
    return files, failed


def _images(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted; other files are counted on standard error."""
    paths = sorted(path for path in folder.rglob("*") if not is_litter(_within(folder, path)) and path.is_file())
    images = [path for path in paths if is_image(_within(folder, path))]
    of_images = {path.with_suffix("") for path in images} | set(images)
    others = [path for path in paths if not (path in of_images or _is_sidecar(path, of_images))]
    if others and images:
        kinds = sorted({path.suffix.lower() or path.name for path in others})
        print_lines([f"{folder}: {len(others)} of {len(paths)} files are not read, as no images: {name_some(kinds)}"])
    return images


def _is_sidecar(path: Path, of_images: set[Path]) -> bool:
    """Is this the text file or the XMP sidecar of one of the images?"""
    return path.suffix.lower() in (".txt", ".xmp") and path.with_suffix("") in of_images


def _within(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def is_there(path: Path, notices: Notices) -> bool:
    """Whether a file can be opened, without opening it: it may be a pipe."""
    try:
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as fault:
        notices.skip(path, fault)
        return False
    return True

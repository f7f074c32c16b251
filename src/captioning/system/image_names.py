"""Names of files in a folder or an archive: which are images, which a system left there, which lead outside."""

import re
from pathlib import PurePosixPath

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif"))  # of images
_LEFT_BEHIND = frozenset(("__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin"))  # folders, in small letters
_DRIVE = re.compile(r"[A-Za-z]:")


def is_image(name: str) -> bool:
    """Whether a path inside a folder or an archive is that of an image, and not of what a system left there."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not is_litter(name)


def is_litter(name: str) -> bool:
    """Whether a path inside a folder or an archive is hidden, or in a folder of thumbnails, forks or deleted files."""
    parts = PurePosixPath(tidy(name)).parts
    return any((part.startswith(".") and part != "..") or part.lower() in _LEFT_BEHIND for part in parts)


def tidy(name: str) -> str:
    """The path with `/` between its parts, also where Windows wrote a backslash, and without `./`."""
    return str(PurePosixPath(name.replace("\\", "/")))


def can_be(name: str) -> bool:
    """Whether a file can have this name: no NUL, no half of a character, no part beyond 255 bytes, 4,095 in all."""
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return False
    return "\0" not in name and max(map(len, parts)) < 256 and len(b"/".join(parts)) < 4096


def last(name: str) -> str:
    """A path without its folders."""
    return PurePosixPath(tidy(name)).name


def leads_outside(name: str) -> bool:
    """Absolute paths, drive letters and `..`, also behind backslashes: whoever unpacks such a file is harmed."""
    path = name.replace("\\", "/")
    parts = PurePosixPath(path).parts
    return not parts or path.startswith("/") or ".." in parts or bool(_DRIVE.match(path))

"""The clip art of Abstract Scenes v1.1, where `Scenes_10020.txt` puts it.

    10020                                           scenes
    0 TAB 6                                         set, pieces of its next scene
    hb0_3s.png TAB 2 TAB 3 TAB 51 TAB 85 TAB 1 TAB 0    file, type, object, x, y, depth, flip

x and y are the middle of a piece in the image of 500 × 400 pixels; a piece is as large as its file, at depth 0, and
.7 and .49 times as large at depths 1 and 2.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found
from captioning.system.archives import Archive
from captioning.system.documents import REMEDY, decode_text
from captioning.system.errors import UserError, quote
from captioning.vision.images import size_of

_TEXT, _FOLDER = "Scenes_10020.txt", "Pngs"
_SCALES = (1.0, 0.7, 0.49)  # by depth
_HEADER = re.compile(r"(\d{1,5})\s+(\d{1,3})\s*")
_PIECE = re.compile(r"(\w+)\.png\s+\d+\s+\d+\s+(-?\d{1,5})\s+(-?\d{1,5})\s+([012])\s+[01]\s*")
_PEOPLE = {"hb0": "boy", "hb1": "girl"}  # Mike and Jenny; the names of other pieces are not published
_DRAWN = (500, 400)


def read_clip_art(path: Path, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Truth]:
    """Scene → the pieces of each image of `sizes` (width, height), cut at its edges, in the order of the file.

    The name of a piece is that of its file, as `p_4s`; `boy` and `girl` for Mike and Jenny. Raises UserError with file
    and line of what is malformed.
    """
    with Archive(path) as archive:
        members = {PurePosixPath(name).name: name for name in archive.names()}
        if _TEXT not in members:
            raise UserError(f"{path}: it has no file {_TEXT}; {REMEDY}")
        location = f"{path}/{members[_TEXT]}"
        art = _sizes_of_art(archive)
        scenes = _scenes(decode_text(archive.read(members[_TEXT]), location), location)
        return {key: Truth(_found(scenes.get(key, []), art, size, location), []) for key, size in sizes.items()}


def _sizes_of_art(archive: Archive) -> dict[str, tuple[int, int]]:
    members = [name for name in archive.names() if PurePosixPath(name).parent.name == _FOLDER]
    return {PurePosixPath(name).stem: size_of(archive.read(name), name) for name in members if name.endswith(".png")}


def _scenes(text: str, location: str) -> dict[str, list[tuple[int, re.Match[str]]]]:
    """Scene, as its image_id → its pieces, each with its line."""
    scenes: dict[str, list[tuple[int, re.Match[str]]]] = {}
    places: Counter[int] = Counter()
    lines = enumerate(text.splitlines()[1:], start=2)
    for number, line in lines:
        header = _HEADER.fullmatch(line)
        if not header:
            raise UserError(f"{location}, line {number}: {quote(line)} is not a set and its number of pieces; {REMEDY}")
        part = int(header[1])
        pieces = [_piece(*next(lines, (number + 1, "")), location) for _ in range(int(header[2]))]
        scenes[str(10 * part + places[part])] = pieces
        places[part] += 1
    return scenes


def _piece(number: int, line: str, location: str) -> tuple[int, re.Match[str]]:
    piece = _PIECE.fullmatch(line)
    if not piece:
        raise UserError(f"{location}, line {number}: {quote(line)} is not a piece of clip art; {REMEDY}")
    return number, piece


def _found(
    pieces: list[tuple[int, re.Match[str]]], art: Mapping[str, tuple[int, int]], size: tuple[int, int], location: str
) -> list[Found]:
    found = []
    for number, piece in pieces:
        if piece[1] not in art:
            raise UserError(f"{location}, line {number}: the archive has no {_FOLDER}/{piece[1]}.png; {REMEDY}")
        x, y, scale = int(piece[2]), int(piece[3]), _SCALES[int(piece[4])]
        width, height = (side * scale / 2 for side in art[piece[1]])
        across, down = (side / drawn for side, drawn in zip(size, _DRAWN, strict=True))
        box = ((x - width) * across, (y - height) * down, (x + width) * across, (y + height) * down)
        name = _PEOPLE.get(piece[1].partition("_")[0], piece[1])
        if box[0] < size[0] and box[1] < size[1] and box[2] > 0 and box[3] > 0:
            found.append(Found(name, 1.0, box))
    return found

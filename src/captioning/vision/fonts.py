"""Lettering in images: Pillow's own font for what it has, such as ASCII, and other fonts for the world's scripts.

The others, in this order: the files that the variable CAPTIONING_FONT names, DejaVu Sans, which matplotlib brings, and
the Noto fonts of the optional packages in `_PACKAGES`. A letter that no font has is written as `[U+72D7]`.
"""

import contextlib
import io
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from PIL import ImageDraw, ImageFont

from captioning.system.errors import UserError, reason
from captioning.system.scripts import clusters, unseen

VARIABLE = "CAPTIONING_FONT"
_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")
_JOINERS = "\u200c\u200d"  # they are not seen, but give the letters beside them another form
_FIRST = "Regular"  # of a font with several weights


class Face(NamedTuple):
    """A font of one size, and the code points that it has glyphs for."""

    font: ImageFont.FreeTypeFont
    letters: frozenset[int]

    def has(self, text: str) -> bool:
        """Whether it has a glyph for each letter that is seen."""
        return all(ord(letter) in self.letters or letter in _JOINERS for letter in text)


class Lettering:
    """What writes text of one size, in pixels. ASCII alone is written as Pillow's own font always wrote it."""

    def __init__(self, size: int) -> None:
        plain = ImageFont.load_default(size)
        assert isinstance(plain, ImageFont.FreeTypeFont)
        self.size, self.plain = size, plain

    def getlength(self, text: str) -> float:
        """The width of a line of text in pixels."""
        return sum(face.font.getlength(run) for face, run in self._runs(text))

    def write(self, pen: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, colour: tuple[int, ...]) -> None:
        """Write a line of text. corner: left and top, in pixels; all fonts stand on one line."""
        left, top = float(corner[0]), corner[1] + self.plain.getmetrics()[0]
        for face, run in self._runs(text):
            pen.text((left, top - face.font.getmetrics()[0]), run, fill=colour, font=face.font)
            left += face.font.getlength(run)

    def pieces(self, word: str) -> list[str]:
        """The parts of a word between which a line may be broken: letters with their marks, or single numbers."""
        if word.isascii():
            return list(word)
        faces = self._faces()
        whole = ((piece, len(_legible(piece, faces)) <= len(piece)) for piece in clusters(word))
        return [part for piece, seen in whole for part in ([piece] if seen else piece)]

    def _faces(self) -> list[Face]:
        return [Face(self.plain, _letters_of_plain()), *_faces(os.environ.get(VARIABLE, ""), self.size)]

    def _runs(self, text: str) -> list[tuple[Face, str]]:
        """The text from left to right, each part with its font: one font for all of it, if one has all letters."""
        if text.isascii() and text.isprintable():
            return [(Face(self.plain, frozenset()), text)]
        faces = self._faces()
        text = _legible(text, faces)
        if face := _first(faces, text):
            return [(face, text)]
        words = re.findall(" +|[^ ]+", text)
        runs = [run for word in words for run in _split(word, faces)]
        return runs[::-1] if _from_right(text) else runs


def _first(faces: Iterable[Face], text: str) -> Face | None:
    return next((face for face in faces if face.has(text)), None)


def _split(word: str, faces: Sequence[Face]) -> list[tuple[Face, str]]:
    """A word in one font, else in parts that one font has."""
    if face := _first(faces, word):
        return [(face, word)]
    parts = groupby(word, key=lambda letter: next(index for index, face in enumerate(faces) if face.has(letter)))
    return [(faces[index], "".join(letters)) for index, letters in parts]


def _legible(text: str, faces: Sequence[Face]) -> str:
    """Composed, without what is not seen, and with the number of each letter that no font has."""
    composed = unicodedata.normalize("NFC", text)
    kept = [letter for letter in composed if letter in _JOINERS or not unseen(letter)]
    return "".join(letter if any(face.has(letter) for face in faces) else _number(letter) for letter in kept)


@cache
def _number(letter: str) -> str:
    code = f"U+{ord(letter):04X}"
    _advise(code)
    return f"[{code}]"


_advised: set[str] = set()


def _advise(code: str) -> None:
    """Once a process: what to do about letters that no font has."""
    if not _advised:
        _advised.add(code)
        logging.getLogger(__name__).warning(
            "no font has the letter %s of a caption, so images show its number; "
            "name a font file in %s, or install captioning[fonts]",
            code,
            VARIABLE,
        )


def _from_right(text: str) -> bool:
    """Whether a line begins at the right: its first letter with a direction is of a script such as Arabic."""
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((way for way in directions if way in ("L", "R", "AL")), "L") != "L"


def named(variable: str) -> list[Path]:
    """The font files that CAPTIONING_FONT names. Raises UserError for one that is no font."""
    paths = [Path(name).expanduser() for name in variable.split(os.pathsep) if name]
    for path in paths:
        _open(path, 10)
    return paths


@cache
def _faces(variable: str, size: int) -> tuple[Face, ...]:
    return tuple(Face(_open(path, size), _letters(path)) for path in (*named(variable), _dejavu(), *_optional()))


def _dejavu() -> Path:
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def _optional() -> list[Path]:
    """The fonts of the optional packages that are installed."""
    specs = [spec for name in _PACKAGES if (spec := find_spec(name)) and spec.origin]
    files = [path for spec in specs for path in sorted(Path(str(spec.origin)).parent.glob("*.tt[fc]"))]
    return [path for path in files if "Italic" not in path.name]


def _open(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font whose letters join and run as their script has it, if Pillow finds FriBiDi."""
    try:
        font = ImageFont.truetype(path, size)
        _letters(path)
    except (OSError, RuntimeError) as fault:
        raise UserError(f"{VARIABLE}: {path} is no font ({reason(fault)}); name a TTF, OTF or TTC file") from fault
    with contextlib.suppress(OSError):  # a font of one weight
        if _FIRST.encode() in font.get_variation_names():
            font.set_variation_by_name(_FIRST)
    return font


@cache
def _letters(path: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(path)).get_charmap())


@cache
def _letters_of_plain() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    plain = ImageFont.load_default(10)
    assert isinstance(plain, ImageFont.FreeTypeFont)
    assert isinstance(plain.path, io.BytesIO)
    return frozenset(FT2Font(io.BytesIO(plain.path.getvalue())).get_charmap())

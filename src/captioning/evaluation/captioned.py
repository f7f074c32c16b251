"""Sheets of captioned images for a page: what a model says, what a person said, and whether it is true.

Every text is wrapped over as many lines as it needs; none is cut. Same input, same bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from PIL import Image, ImageDraw, ImageOps

from captioning.system.archives import ImageArchives
from captioning.vision.contact_sheets import INK, MARGIN, PAPER, leading, rounded, wrap
from captioning.vision.fonts import Lettering
from captioning.vision.images import decode

SOFT = (91, 96, 107)  # 6 to 1 against the paper
_GOOD, _BAD = (10, 107, 76), (163, 59, 0)
_CARD = 300  # side of an image, pixels: three of them fill a page of a repository
_CAPTION, _REFERENCE, _NOTE = 26, 22, 22  # sizes of text, pixels: about 9 and 8 where three columns are 358 wide
_GAP = 10  # between image, caption and reference, pixels
_LARGE = 8  # times that a mark is drawn larger before it is reduced

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shown:
    """An image with its caption and a reference; `true`: all that the caption says is so; None where nobody knows."""

    image: Image.Image
    caption: str
    reference: str
    true: bool | None = None

    @classmethod
    def read(cls, images: ImageArchives, file: str, caption: str, reference: str, true: bool | None) -> Self:
        """The same of an image in archives. Raises UserError, with the file's name, if it cannot be decoded."""
        return cls(decode(images.read(file), file), caption, reference, true)


def hero(shown: Sequence[Shown], columns: int = 3) -> Image.Image:
    """Images in at most four columns: below each its caption with a mark (✓ ✗), and in a quieter colour a reference.

    What the marks mean, and how many captions are true, is below all. RGBA: light paper whose rounded corners are
    transparent, so that it stands on light and dark pages. Raises ValueError for no image or no such columns.
    """
    if not shown or columns not in range(1, 5):
        raise ValueError(f"{len(shown)} images in {columns} columns: at least one, in 1 to 4")
    columns = min(columns, len(shown))
    rows = [shown[k : k + columns] for k in range(0, len(shown), columns)]
    heights = [max(_height(one) for one in row) for row in rows]
    width = MARGIN + columns * (_CARD + MARGIN)
    note = _note(shown, width - 2 * MARGIN)
    paper = Image.new("RGB", (width, MARGIN + sum(heights) + MARGIN * len(rows) + (note.height if note else 0)), PAPER)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, one in enumerate(row):
            _card(paper, one, MARGIN + column * (_CARD + MARGIN), top)
        top += height + MARGIN
    if note:
        paper.paste(note, (MARGIN, top))
    return _on_any_page(paper)


def _on_any_page(paper: Image.Image) -> Image.Image:
    paper = paper.convert("RGBA")
    paper.putalpha(rounded(*paper.size))
    return paper


def _lines(one: Shown) -> tuple[list[str], list[str]]:
    """The lines of its caption, beside which there is room for a mark, and of its reference."""
    room = _CARD if one.true is None else _CARD - _CAPTION - _GAP
    caption = wrap(one.caption, _font(_CAPTION), room)
    return caption, wrap(one.reference, _font(_REFERENCE), _CARD)


def _height(one: Shown) -> int:
    caption, reference = _lines(one)
    return _CARD + 2 * _GAP + len(caption) * leading(_CAPTION) + len(reference) * leading(_REFERENCE)


def _card(paper: Image.Image, one: Shown, left: int, top: int) -> None:
    caption, reference = _lines(one)
    paper.paste(ImageOps.fit(one.image, (_CARD, _CARD), Image.Resampling.LANCZOS), (left, top), rounded(_CARD, _CARD))
    top += _CARD + _GAP
    indent = 0
    if one.true is not None:
        badge = mark(one.true, _CAPTION)
        paper.paste(badge, (left, top + (leading(_CAPTION) - _CAPTION) // 2), badge)
        indent = _CAPTION + _GAP
    top = _write(paper, caption, left + indent, top, _CAPTION, INK)
    _write(paper, reference, left, top + _GAP // 2, _REFERENCE, SOFT)


def _write(paper: Image.Image, lines: Sequence[str], left: int, top: int, size: int, colour: Colour) -> int:
    """Write lines, and return where the next one would be."""
    pen = ImageDraw.Draw(paper)
    for line in lines:
        _font(size).write(pen, (left, top), line, colour)
        top += leading(size)
    return top


def mark(true: bool, size: int) -> Image.Image:
    """A disc with a tick or a cross, of `size` pixels, drawn as lines; RGBA."""
    side = size * _LARGE
    large = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(large)
    pen.ellipse((0, 0, side - 1, side - 1), fill=_GOOD if true else _BAD)
    tick = [[(0.27, 0.53), (0.44, 0.69), (0.74, 0.34)]]
    cross = [[(0.32, 0.32), (0.68, 0.68)], [(0.68, 0.32), (0.32, 0.68)]]
    for stroke in tick if true else cross:
        pen.line([(x * side, y * side) for x, y in stroke], fill=PAPER, width=round(0.11 * side), joint="curve")
    return large.resize((size, size), Image.Resampling.BOX)


def _note(shown: Sequence[Shown], width: int) -> Image.Image | None:
    """What the marks mean, each with how many captions have it; None where there is no mark."""
    known = [one.true for one in shown if one.true is not None]
    if not known:
        return None
    parts = [
        (True, f"all that the caption says is true of the image: {known.count(True)} of {len(known)}"),
        (False, f"something is not: {known.count(False)} of {len(known)}"),
    ]
    indent = _NOTE + _GAP
    wrapped = [(true, wrap(text, _font(_NOTE), width - indent)) for true, text in parts]
    grey = wrap("grey: what a person would say (one of the references)", _font(_NOTE), width)
    count = sum(len(lines) for _, lines in wrapped) + len(grey)
    note = Image.new("RGB", (width, count * leading(_NOTE) + MARGIN), PAPER)
    top = 0
    for true, lines in wrapped:
        badge = mark(true, _NOTE)
        note.paste(badge, (0, top + (leading(_NOTE) - _NOTE) // 2), badge)
        top = _write(note, lines, indent, top, _NOTE, INK)
    _write(note, grey, 0, top, _NOTE, SOFT)
    return note


def with_scale(body: Image.Image, caption: str, bar: Image.Image, ends: tuple[str, str], note: str) -> Image.Image:
    """A sheet with its caption above, and below it a bar of colour with what its ends mean, and what it measures."""
    width = body.width - 2 * MARGIN
    above, lines = wrap(caption, _font(_CAPTION), width), wrap(note, _font(_NOTE), width)
    bar = bar.resize((min(bar.width, width), bar.height))
    starts, line = MARGIN // 2 + _GAP + len(above) * leading(_CAPTION), leading(_NOTE)
    height = starts + body.height + bar.height + (1 + len(lines)) * line + MARGIN + _GAP
    paper = Image.new("RGB", (body.width, height), PAPER)
    _write(paper, above, MARGIN, MARGIN // 2 + _GAP, _CAPTION, INK)
    paper.paste(body, (0, starts))
    top = starts + body.height
    paper.paste(bar, (MARGIN, top))
    _write(paper, [ends[0]], MARGIN, top + bar.height, _NOTE, SOFT)
    right = MARGIN + bar.width - math.ceil(_font(_NOTE).getlength(ends[1]))
    _write(paper, [ends[1]], right, top + bar.height, _NOTE, SOFT)
    _write(paper, lines, MARGIN, top + bar.height + line, _NOTE, SOFT)
    return paper


@cache
def _font(size: int) -> Lettering:
    return Lettering(size)

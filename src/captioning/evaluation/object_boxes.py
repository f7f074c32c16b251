"""An image with the boxes of its objects, each with its name, and with the caption's word for it if there is one."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from captioning.evaluation.objects.names import forms
from captioning.vision.contact_sheets import INK, PAPER, TILE, leading
from captioning.vision.fonts import Lettering
from captioning.vision.images import Box

_SIDE = 480  # pixels: a smaller image is enlarged, so that names can be read on it
_FONT_SIZE, _LINE, _PAD = 16, 3, 4  # in pixels
_SMALL_FONT, _THIN = 13, 2  # on a tile of a contact sheet
_SAID, _UNSAID = (34, 120, 80), (120, 124, 132)  # colours of objects that the caption names, and of others


def word_for(name: str, words: Sequence[str]) -> str | None:
    """The word of a caption that names an object: its name, or the plural of it; of several words, the last one.

    None where the caption has no such word.
    """
    noun = name.rpartition(" ")[2]
    return next((word for word in words if word in forms(noun)), None)


def draw(image: Image.Image, objects: Sequence[tuple[str, Box]], words: Sequence[str]) -> Image.Image:
    """The image, enlarged if it is small, with a box and a label for each object. Same input, same bytes.

    objects: names, and boxes in pixels of the image, best first. words: of the caption.
    """
    factor = max(1, -(-_SIDE // max(image.size)))
    paper = image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
    enlarged = [(name, [side * factor for side in box]) for name, box in objects]
    _mark(paper, enlarged, words, _FONT_SIZE, _LINE)
    return paper


def tile(image: Image.Image, objects: Sequence[tuple[str, Box]], words: Sequence[str]) -> Image.Image:
    """The square in the middle of an image, for a contact sheet, with the same boxes where it shows them."""
    paper = ImageOps.fit(image, (TILE, TILE), Image.Resampling.LANCZOS)
    scale = TILE / min(image.size)
    cut = [(size * scale - TILE) / 2 for size in image.size]
    placed = [(name, [side * scale - cut[axis % 2] for axis, side in enumerate(box)]) for name, box in objects]
    seen = [(name, [min(max(side, 0.0), TILE - 1.0) for side in box]) for name, box in placed]
    _mark(paper, [one for one in seen if one[1][0] < one[1][2] and one[1][1] < one[1][3]], words, _SMALL_FONT, _THIN)
    return paper


def _mark(
    paper: Image.Image, objects: Sequence[tuple[str, Sequence[float]]], words: Sequence[str], font_size: int, line: int
) -> None:
    """Draw boxes, in pixels of the paper, each with a label at its upper left corner, within the image."""
    pen, font, height = ImageDraw.Draw(paper), Lettering(font_size), leading(font_size)
    for name, box in reversed(objects):  # the best one comes last, above all others
        word = word_for(name, words)
        label, colour = name if word in (None, name) else f"{name}: {word}", _UNSAID if word is None else _SAID
        pen.rectangle(tuple(map(round, box)), outline=colour, width=line)
        width = round(font.getlength(label)) + 2 * _PAD
        left = max(0, min(round(box[0]), paper.width - width))
        top = max(0, min(round(box[1]) - height, paper.height - height))
        pen.rectangle((left, top, left + width, top + height), fill=PAPER if word is None else colour)
        font.write(pen, (left + _PAD, top), label, INK if word is None else PAPER)

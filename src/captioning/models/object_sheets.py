"""An image with the boxes of its objects, each with its name, and with the caption's word for it if there is one."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from captioning.evaluation.objects.names import forms
from captioning.vision.contact_sheets import INK, PAPER, leading
from captioning.vision.fonts import Lettering
from captioning.vision.images import Box

_SIDE = 480  # pixels: a smaller image is enlarged, so that names can be read on it
_FONT_SIZE, _LINE, _PAD = 16, 3, 4  # in pixels
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
    pen = ImageDraw.Draw(paper)
    for name, box in reversed(objects):  # the best one comes last, above all others
        word = word_for(name, words)
        _box(
            pen, paper.size, [side * factor for side in box], name if word in (None, name) else f"{name}: {word}", word
        )
    return paper


def _box(pen: ImageDraw.ImageDraw, size: tuple[int, int], box: Sequence[float], label: str, word: str | None) -> None:
    """A rectangle, and its label at the upper left corner, within the image."""
    font, colour = Lettering(_FONT_SIZE), _UNSAID if word is None else _SAID
    pen.rectangle(tuple(map(round, box)), outline=colour, width=_LINE)
    width, height = round(font.getlength(label)) + 2 * _PAD, leading(_FONT_SIZE)
    left = max(0, min(round(box[0]), size[0] - width))
    top = max(0, min(round(box[1]) - height, size[1] - height))
    pen.rectangle((left, top, left + width, top + height), fill=PAPER if word is None else colour)
    font.write(pen, (left + _PAD, top), label, INK if word is None else PAPER)

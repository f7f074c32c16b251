"""Contact sheets: images side by side on paper, each with its caption beneath."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from captioning.vision.fonts import Lettering

TILE = 240  # the longer side of a tile, pixels
MARGIN = 20  # around a tile, pixels
COMPRESSION = 4  # of a sheet as PNG: 5 % larger than by default, in 0.4 of the time
PAPER = (251, 250, 247)
INK = (35, 38, 45)
_FONT_SIZE = 20  # of a caption, pixels


def grid(images: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """A contact sheet: each image cut to a square, with its caption beneath. Same input, same bytes."""
    tiles = [ImageOps.fit(image, (TILE, TILE), Image.Resampling.LANCZOS) for image in images]
    return sheet(tiles, captions, columns)


def sheet(tiles: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """Tiles of one size on paper, row by row, each with its caption beneath. Same input, same bytes."""
    width, height = tiles[0].size
    font, line = Lettering(_FONT_SIZE), leading(_FONT_SIZE)
    wrapped = [wrap(caption, font, width) for caption in captions]
    columns = min(columns, len(tiles))
    rows = [range(first, min(first + columns, len(tiles))) for first in range(0, len(tiles), columns)]
    heights = [height + MARGIN + line * max(len(wrapped[i]) for i in row) + MARGIN // 2 for row in rows]
    paper = Image.new("RGB", (MARGIN + columns * (width + MARGIN), MARGIN + sum(heights)), PAPER)
    pen = ImageDraw.Draw(paper)
    corners = rounded(width, height)
    top = MARGIN
    for row, tall in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = MARGIN + column * (width + MARGIN)
            paper.paste(tiles[index], (left, top), corners)
            for number, text in enumerate(wrapped[index]):
                font.write(pen, (left, top + height + 8 + number * line), text, INK)
        top += tall
    return paper


def leading(size: int) -> int:
    """From one line of text to the next, in pixels, for a font of `size` pixels."""
    return round(size * 1.3)


def rounded(width: int, height: int) -> Image.Image:
    """A mask that rounds the corners of a rectangle, smooth because it is drawn large and reduced."""
    large = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), radius=32, fill=255)
    return large.resize((width, height), Image.Resampling.BOX)


def wrap(text: str, font: Lettering, width: int) -> list[str]:
    """Lines of at most `width` pixels, broken between words, or within a word that is wider than that."""
    lines = [""]
    for word in text.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        for piece in font.pieces(f" {word}" if lines[-1] else word):
            if font.getlength(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
    return lines

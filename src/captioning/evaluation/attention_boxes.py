"""Where a decoder looked among objects at each word, as a figure: boxes on the image, in place of a grid's heat.

R regions, T words.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from captioning.evaluation.attending import Attended
from captioning.evaluation.attention_maps import HEAT, full_scale, on_sheet, shown, tint
from captioning.vision.images import Box, Transform

_BEST, _OTHER = 5, 2  # widths of the frames, pixels: of the region with the greatest weight, and of others


def draw(image: Image.Image, attended: Attended, transform: Transform) -> Image.Image:
    """A contact sheet as that of `attention_maps.draw`, for the boxes (R, 4) of objects.

    A tile is in grey, but for the region with the greatest weight at its word, which has its colours and a broad frame.
    The frames of all regions are as strong as their weights, on one scale for the sheet. The first region is the whole
    image. Same input, same bytes.
    """
    assert attended.boxes is not None
    plain, seen = shown(image, transform)
    top = full_scale(attended.weights)
    boxes = [_placed(box, seen) for box in attended.boxes.tolist()]
    tiles = [_tile(plain, seen, boxes, weights / top) for weights in attended.weights]
    return on_sheet(plain, tiles, attended, top)


def _placed(box: Sequence[float], seen: Box) -> tuple[int, int, int, int]:
    """A box in shares of what the encoder sees → in pixels of the tile."""
    begin, length = seen[:2], (seen[2] - seen[0], seen[3] - seen[1])
    left, top, right, bottom = (round(begin[axis % 2] + side * length[axis % 2]) for axis, side in enumerate(box))
    return left, top, right, bottom


def _tile(
    plain: Image.Image, seen: Box, boxes: Sequence[tuple[int, int, int, int]], strengths: np.ndarray
) -> Image.Image:
    """The image with the frames of its regions; strengths (R,), 0 to 1. The strongest comes last, above all others."""
    tile = tint(plain, np.zeros(plain.size[::-1]), seen)
    order = np.argsort(strengths, kind="stable").tolist()
    best = boxes[order[-1]]
    tile.paste(plain.crop(best), best)
    frames = Image.new("L", plain.size)
    pen = ImageDraw.Draw(frames)
    for region in order:
        left, top, right, bottom = boxes[region]
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(corners, outline=round(255 * strengths[region]), width=_BEST if region == order[-1] else _OTHER)
    tile.paste(HEAT, mask=frames)
    return tile

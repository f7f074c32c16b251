"""Where a decoder looked at each word, as a figure: Show, Attend and Tell's (Xu et al. 2015, figures 2 and 3).

H, W rows and columns of the region grid, R regions (H * W), S side in pixels, T words.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from captioning.evaluation.attending import Attended
from captioning.evaluation.captioned import with_scale
from captioning.system import scripts
from captioning.vision.contact_sheets import MARGIN, PAPER, TILE, sheet
from captioning.vision.images import Box, Transform

_SHEET, _TILES = 1300, 8  # about the widest that a sheet may be, pixels; the most tiles of a row
_FINER = 5  # parts of a region's side after smoothing; odd, so that one of them is in its middle
_PANORAMA = 2  # what is longer than so many times its width is cut to that, around the middle
_DARKEST, _CONTRAST = 70, 0.6  # of the grey image, which leaves room for colour above and below
HEAT, _STRENGTH = (255, 112, 0), 0.8  # full tint: its colour, and how much of it covers the image
_EVEN = 4  # full tint is at least so many times an even look
_FADED = 0.75  # how much paper covers what the encoder did not see


def heat(weights: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Weights (H, W) of regions that fill `box` of an image of `size` (width, height) → (height, width).

    Bilinear: a pixel in the middle of a region has its weight; beyond the outermost middles it stays level.
    """
    across, down = (_places(box[axis], box[axis + 2], size[axis], weights.shape[1 - axis]) for axis in (0, 1))
    rows = _between(weights.T.astype(float), across)  # (width, H)
    return _between(rows.T, down)


def smooth(weights: np.ndarray) -> np.ndarray:
    """Weights (H, W) of regions → of a grid that is several times as fine, without creases (Catmull-Rom).

    The middle of a region keeps its weight, and no weight is negative or greater than the greatest.
    """
    size = weights.shape[1] * _FINER, weights.shape[0] * _FINER
    finer = Image.fromarray(weights.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(finer).clip(0, weights.max())


def _places(begin: float, end: float, pixels: int, regions: int) -> np.ndarray:
    """Where the middle of each pixel is, counted in regions from the middle of the first."""
    share = (np.arange(pixels) + 0.5 - begin) / (end - begin)
    return share * regions - 0.5


def draw(image: Image.Image, attended: Attended, transform: Transform) -> Image.Image:
    """A contact sheet: the caption, the image, and a tile a word, in grey and tinted where the decoder looked.

    The word is beneath its tile, and the scale of the tint below all. Weights are smoothed over regions.
    Grey is the image and colour is attention, so that neither is taken for the other. All tiles of a sheet have one
    scale, so that words can be compared: the tint is proportional to the weight, and full at the greatest weight that
    any region has at any word, or at four times an even look, 4 / R, where no weight is so great. A word that looks
    everywhere is faint beside one that looks at one place, and a decoder that never chooses is faint throughout.
    What the encoder did not see, because the transform cuts it off, is faded. Same input, same bytes.
    """
    plain, box = shown(image, transform)
    top = full_scale(attended.weights)
    tinted = [tint(plain, heat(smooth(weights / top), box, plain.size), box) for weights in attended.weights]
    return on_sheet(plain, tinted, attended, top)


def shown(image: Image.Image, transform: Transform) -> tuple[Image.Image, Box]:
    """An image as large as a tile, and in its pixels the box that the encoder sees. Of a panorama, the middle."""
    window = _window(image.size)
    scale = TILE / max(window[2] - window[0], window[3] - window[1])
    width, height = (max(1, round((window[axis + 2] - window[axis]) * scale)) for axis in (0, 1))
    plain = image.resize((width, height), Image.Resampling.LANCZOS, box=window)
    return plain, _within(transform.seen(image.size), window, (width, height))


def full_scale(weights: np.ndarray) -> float:
    """The weight that has full tint: the greatest of (T, …), or four times an even look where none is so great."""
    return float(max(weights.max(), min(1, _EVEN / weights[0].size)))


def on_sheet(plain: Image.Image, tiles: Sequence[Image.Image], attended: Attended, top: float) -> Image.Image:
    """The sheet of an image, its tiles, one a word, and a scale up to `top`."""
    rows = -(-(len(tiles) + 1) // min(_TILES, _SHEET // (plain.width + MARGIN)))
    body = sheet([plain, *tiles], ["", *attended.words], columns=-(-(len(tiles) + 1) // rows))
    note = f"of the attention on one of {attended.weights[0].size} regions, at every word"
    return with_scale(body, scripts.join(attended.words[:-1]), _bar(), ("0 %", f"{top:.0%}".replace("%", " %")), note)


def _window(size: tuple[int, int]) -> Box:
    """The part of an image that is shown: all of it, but of a panorama the middle."""
    sides = [min(side, _PANORAMA * min(size)) for side in size]
    left, top = ((side - visible) / 2 for side, visible in zip(size, sides, strict=True))
    return left, top, left + sides[0], top + sides[1]


def _within(box: Box, window: Box, size: tuple[int, int]) -> Box:
    """`box`, in pixels of an image whose part `window` was resized to `size`."""
    begin, scale = window[:2], [side / (window[axis + 2] - window[axis]) for axis, side in enumerate(size)]
    left, top, right, bottom = ((box[i] - begin[i % 2]) * scale[i % 2] for i in range(4))
    return left, top, right, bottom


def _between(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`values` (N, M), at 0 to N - 1, linearly interpolated at `places` (P,) → (P, M); level beyond both ends."""
    places = places.clip(0, len(values) - 1)
    before = np.floor(places).astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    between: np.ndarray = (values[after] - values[before]) * (places - before)[:, None] + values[before]
    return between


def tint(plain: Image.Image, shares: np.ndarray, box: Box) -> Image.Image:
    """The image in grey, tinted by `shares` of full tint (height, width) inside `box`, and faded outside it."""
    grey = np.asarray(plain.convert("L"))[..., None] * _CONTRAST + _DARKEST  # (height, width, 1)
    tinted = grey + (np.array(HEAT) - grey) * (_STRENGTH * shares[..., None])
    faded = grey + (np.array(PAPER) - grey) * _FADED
    across, down = (_inside(box[axis], box[axis + 2], plain.size[axis]) for axis in (0, 1))
    seen = (down[:, None] * across)[..., None]
    return Image.fromarray(np.rint(faded + (tinted - faded) * seen).astype(np.uint8))


def _bar() -> Image.Image:
    """The tint of middle grey, from none on the left to full."""
    shares = np.broadcast_to(np.linspace(0, 1, TILE), (MARGIN, TILE))
    return tint(Image.new("RGB", (TILE, MARGIN), (128, 128, 128)), shares, (0, 0, TILE, MARGIN))


def _inside(begin: float, end: float, pixels: int) -> np.ndarray:
    """The share of each pixel that lies between `begin` and `end`: (pixels,)."""
    return np.diff(np.clip(np.arange(pixels + 1), begin, end))

"""Where a decoder looked at each word, as a figure: Show, Attend and Tell's (Xu et al. 2015, figures 2 and 3).

H, W rows and columns of the region grid, R regions (H * W), S side in pixels, T words.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from captioning.captioner.model import Captioner
from captioning.evaluation.captioned import with_scale
from captioning.system import scripts
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, write_json
from captioning.vision.contact_sheets import COMPRESSION, MARGIN, PAPER, TILE, sheet
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.images import Box, Transform, decode

if TYPE_CHECKING:
    import pandas as pd

_SHEET, _TILES = 1300, 8  # about the widest that a sheet may be, pixels; the most tiles of a row
_FINER = 5  # parts of a region's side after smoothing; odd, so that one of them is in its middle
_LONGEST = 50  # characters of an image's name in that of its sheet
_PANORAMA = 2  # what is longer than so many times its width is cut to that, around the middle
_DARKEST, _CONTRAST = 70, 0.6  # of the grey image, which leaves room for colour above and below
_HEAT, _STRENGTH = (255, 112, 0), 0.8  # full tint: its colour, and how much of it covers the image
_EVEN = 4  # full tint is at least so many times an even look
_FADED = 0.75  # how much paper covers what the encoder did not see


class Attended(NamedTuple):
    """The words of a caption with `<eos>`, and where the decoder looked when it chose each: (T, H, W), sums of 1."""

    words: tuple[str, ...]
    weights: np.ndarray


def refusal(captioner: Captioner) -> str | None:
    """Why there is nothing to draw for this model, in words; None where there is."""
    if captioner.attending is None:
        return f"the decoder {captioner.card.decoder} does not attend to regions, so it has no attention to draw"
    if captioner.card.placed_objects:
        return "the decoder looks at objects, which form no grid, so attention cannot be laid on one"
    if captioner.encoder.grid is None:
        return f"the regions of the encoder {captioner.card.encoder} form no grid, so attention cannot be laid on them"
    return None


@torch.inference_mode()
def attend(captioner: Captioner, encoded: Encoded, caption: str) -> Attended:
    """The attention over one image, `encoded`, by one teacher-forced pass over the caption that was found for it.

    The model must be one that `refusal` has nothing against.
    """
    decoder, grid = captioner.attending, captioner.encoder.grid
    assert decoder is not None
    assert grid is not None
    vocabulary = captioner.vocabulary
    ids, special = vocabulary.encode(scripts.split(caption)), vocabulary.special
    tokens = torch.tensor([[special.bos, *ids]], device=encoded.mean.device)
    weights = decoder.attention(encoded, tokens, torch.zeros_like(tokens[:, 0]))[0].float()  # (T, R)
    spans = [*vocabulary.spans(ids), (vocabulary.text(special.eos), [len(ids)])]
    of_words = torch.stack([weights[places].mean(0) for _, places in spans])  # (W, R)
    return Attended(tuple(word for word, _ in spans), of_words.cpu().numpy().reshape(-1, *grid))


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
    window = _window(image.size)
    scale = TILE / max(window[2] - window[0], window[3] - window[1])
    width, height = (max(1, round((window[axis + 2] - window[axis]) * scale)) for axis in (0, 1))
    plain = image.resize((width, height), Image.Resampling.LANCZOS, box=window)
    box = _within(transform.seen(image.size), window, (width, height))
    top = max(attended.weights.max(), min(1, _EVEN / attended.weights[0].size))
    tinted = [_tint(plain, heat(smooth(weights / top), box, plain.size), box) for weights in attended.weights]
    rows = -(-(len(tinted) + 1) // min(_TILES, _SHEET // (width + MARGIN)))
    tiles = sheet([plain, *tinted], ["", *attended.words], columns=-(-(len(tinted) + 1) // rows))
    note = f"of the attention on one of {attended.weights[0].size} regions, at every word"
    return with_scale(tiles, scripts.join(attended.words[:-1]), _bar(), ("0 %", f"{top:.0%}".replace("%", " %")), note)


def _window(size: tuple[int, int]) -> Box:
    """The part of an image that is shown: all of it, but of a panorama the middle."""
    shown = [min(side, _PANORAMA * min(size)) for side in size]
    left, top = ((side - visible) / 2 for side, visible in zip(size, shown, strict=True))
    return left, top, left + shown[0], top + shown[1]


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


def _tint(plain: Image.Image, shares: np.ndarray, box: Box) -> Image.Image:
    """The image in grey, tinted by `shares` of full tint (height, width) inside `box`, and faded outside it."""
    grey = np.asarray(plain.convert("L"))[..., None] * _CONTRAST + _DARKEST  # (height, width, 1)
    tinted = grey + (np.array(_HEAT) - grey) * (_STRENGTH * shares[..., None])
    faded = grey + (np.array(PAPER) - grey) * _FADED
    across, down = (_inside(box[axis], box[axis + 2], plain.size[axis]) for axis in (0, 1))
    seen = (down[:, None] * across)[..., None]
    return Image.fromarray(np.rint(faded + (tinted - faded) * seen).astype(np.uint8))


def _bar() -> Image.Image:
    """The tint of middle grey, from none on the left to full."""
    shares = np.broadcast_to(np.linspace(0, 1, TILE), (MARGIN, TILE))
    return _tint(Image.new("RGB", (TILE, MARGIN), (128, 128, 128)), shares, (0, 0, TILE, MARGIN))


def _inside(begin: float, end: float, pixels: int) -> np.ndarray:
    """The share of each pixel that lies between `begin` and `end`: (pixels,)."""
    return np.diff(np.clip(np.arange(pixels + 1), begin, end))


def write(
    folder: Path,
    samples: Mapping[str, "pd.DataFrame"],
    images: ImageArchives,
    captioner: Captioner,
    encode: Callable[[int], Encoded],
) -> None:
    """A sheet for each of the images in `report.choose`'s groups: `folder`/GROUP-NN-IMAGE_ID.png, best-01-… first.

    `encode` is told the COCO id of an image. Beside the sheets: index.json, with the grid and each image's words;
    weights.npz, with the weights under each sheet's name without its suffix, float16 (T, H, W).
    With a model that `refusal` has something against, index.json says so, and is alone.
    """
    reason = refusal(captioner)
    weights: dict[str, np.ndarray] = {}
    rows = []
    with atomic(folder) as temporary:
        temporary.mkdir()
        for group, number, row in () if reason else _ranked(samples):
            attended = attend(captioner, encode(row.coco_id), row.hypothesis)
            name = f"{group}-{number:02}-{_safe(row.image_id)}"
            image = decode(images.read(row.file), row.file)
            draw(image, attended, captioner.transform).save(temporary / f"{name}.png", compress_level=COMPRESSION)
            weights[name] = attended.weights.astype(np.float16)
            rows.append({"file": f"{name}.png", "image_id": row.image_id, "words": attended.words})
        if weights:
            np.savez(temporary / "weights.npz", **weights)  # type: ignore[arg-type]
        index = {"decoder": captioner.card.decoder, "grid": captioner.encoder.grid, "pictures": rows, "refusal": reason}
        write_json(temporary / "index.json", index)


def _ranked(samples: Mapping[str, "pd.DataFrame"]) -> Iterator[tuple[str, int, Any]]:
    """Group, place in it from 1, and row of each chosen image."""
    for group, rows in samples.items():
        for number, row in enumerate(rows.itertuples(), start=1):
            yield group, number, row


def file_names(folder: Path, images: Sequence[Path], kind: str = "attention") -> dict[Path, Path]:
    """For each image's file, that of its sheet: `folder`/STEM-KIND.png, with a number where that is taken.

    Two images of one name get two sheets, and no sheet has the name of one of the images.
    """
    taken = {str(path.resolve()).casefold() for path in images}
    sheets: dict[Path, Path] = {}
    for path in dict.fromkeys(images):
        stem = f"{_safe(path.stem)}-{kind}"
        names = (folder / f"{stem}{number}.png" for number in chain([""], (f"-{n}" for n in count(2))))
        sheets[path] = next(name for name in names if str(name.resolve()).casefold() not in taken)
        taken.add(str(sheets[path].resolve()).casefold())
    return sheets


def _safe(name: str) -> str:
    """As a part of a file's name: letters, digits, `_`, `.` and `-`, and not too many of them."""
    return re.sub(r"[^\w.-]+", "-", name)[:_LONGEST]

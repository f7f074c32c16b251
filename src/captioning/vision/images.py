"""Images: decode, orient, resize.

S side in pixels.
"""

import io
import os
import threading
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from captioning.system.errors import UserError, reason, shown

Box = tuple[float, float, float, float]
"""A rectangle in an image: left, top, right, bottom, in pixels, not rounded."""

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

MOST_PIXELS = 89_478_485  # of an image that is decoded whole, as Pillow has it
_BYTES = 12  # of memory a pixel, at least: four in each of the copies on the way to RGB
_VARIABLE = "CAPTIONING_MAX_PIXELS"  # of the environment: a higher limit
_OF_JPEG = 4  # times as many pixels may a JPEG have, for it is decoded at half its size or less
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")  # brands in its header
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_SIDE = 512  # pixels: a JPEG of more than MOST_PIXELS is decoded smaller, its sides no shorter


class ImageError(UserError):
    """An image that cannot be decoded. reason: why, without its name."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{shown(name)}: not an image that can be decoded ({reason}); replace or remove it")
        self.reason = reason


class _Quiet:
    """While any thread is inside, Pillow's remarks are silent, and `_check_size` limits the pixels instead of Pillow.

    The filters of `warnings` and Pillow's limit belong to the process: the first thread sets them, the last one puts
    them back. Pillow still has a limit, since it finds some sizes only while it decodes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()
        self._limit = Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                self._limit = Image.MAX_IMAGE_PIXELS
                Image.MAX_IMAGE_PIXELS = _OF_JPEG * most_pixels() // 2  # Pillow refuses twice as many
            self._inside += 1

    def __exit__(self, *_fault: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS = self._limit


_QUIET = _Quiet()


def most_pixels() -> int:
    """How many pixels an image may have that is decoded whole. Raises UserError if the variable has no such number."""
    given = os.environ.get(_VARIABLE, "").strip()
    if not given:
        return MOST_PIXELS
    if not (given.isdecimal() and len(given) < 16 and int(given) >= MOST_PIXELS):
        raise UserError(f"{_VARIABLE} = {shown(given)}: not a number of pixels from {MOST_PIXELS}; correct or unset it")
    return int(given)


def decode(data: bytes, name: str, side: int | None = None) -> Image.Image:
    """Decode an image to RGB, upright according to its EXIF; of an animation, the first frame.

    What is transparent becomes white; 16-bit grey is scaled to 8. Thread-safe.
    side: a JPEG may come smaller than it is, no shorter than so many pixels: several times as fast. One of more than
    MOST_PIXELS always does.
    Raises ImageError, with `name`, when it cannot be decoded whole or has too many pixels to be safe.
    """
    most = most_pixels()
    try:
        with _QUIET:
            _knows_heif()
            image = Image.open(io.BytesIO(data))
            pixels = image.width * image.height
            if side or pixels > MOST_PIXELS:
                image.draft(None, (side or _SIDE,) * 2)
            _check_size(pixels, image, most)
            return _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as fault:
        raise ImageError(name, f"more than {_OF_JPEG * most:,} pixels; {_VARIABLE} raises the limit") from fault
    except UnidentifiedImageError as fault:
        raise ImageError(name, _unknown(data)) from fault
    except Exception as fault:  # on malformed files, Pillow's plugins raise whatever they stumble over
        raise ImageError(name, reason(fault)) from fault


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Width and height of an image as `decode` orients it, from its header. Thread-safe.

    Raises ImageError, with `name`, when it cannot be read.
    """
    try:
        with _QUIET:
            _knows_heif()
            image = Image.open(io.BytesIO(data))
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except UnidentifiedImageError as fault:
        raise ImageError(name, _unknown(data)) from fault
    except Exception as fault:  # on malformed files, Pillow's plugins raise whatever they stumble over
        raise ImageError(name, reason(fault)) from fault
    return (image.height, image.width) if turned else image.size


@cache
def _knows_heif() -> bool:
    """Whether HEIF (`.heic`, as telephones write it) can be read: with the extra `heif`, which Pillow is told of."""
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        return False
    register_heif_opener()
    return True


def _unknown(data: bytes) -> str:
    """Why Pillow does not know a file."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF and not _knows_heif():
        return "HEIF needs an extra: pip install 'captioning[heif]'"
    return "its format is not known" if data else "the file is empty"


def _check_size(pixels: int, image: Image.Image, most: int) -> None:
    """Refuse an image of so many pixels, which `draft` may have made smaller, where it would need too much memory."""
    if image.width * image.height > most:
        memory = f"{_BYTES * most / 1e9:.1f} GB of memory"
        raise ValueError(f"{pixels:,} pixels exceed the limit of {most:,} ({memory}); {_VARIABLE} raises it")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point brightness, whose range is unknown")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64).clip(0, 2**16 - 1) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


@dataclass(frozen=True)
class Transform:
    """How an image becomes pixels.

    image_size: S. resize: None, and the whole image is squeezed to S × S; or the shorter side, in pixels, before the
    centre S × S is cut out, as in torchvision's `ImageClassification` preset.
    interpolation: bilinear or bicubic, antialiased. mean, std: a channel, of values scaled to 0-1; the
    encoder subtracts and divides on its own device, so that pixels are stored and moved as bytes.
    """

    image_size: int
    resize: int | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB image of any size → uint8 (3, S, S)."""
        size, (left, top) = self._plan(image.size)
        if image.size != size:
            image = image.resize(size, _FILTERS[self.interpolation])
        cut = image.crop((left, top, left + self.image_size, top + self.image_size))
        return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1))

    def seen(self, size: tuple[int, int]) -> Box:
        """What `pixels` takes of an image of `size` (width, height), in pixels of that image.

        The box extends beyond the image if `resize` < S.
        """
        resized, corner = self._plan(size)
        scale = [before / after for before, after in zip(size, resized, strict=True)]
        left, top = (offset * factor for offset, factor in zip(corner, scale, strict=True))
        right, bottom = ((offset + self.image_size) * factor for offset, factor in zip(corner, scale, strict=True))
        return left, top, right, bottom

    def _plan(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Width and height → those after resizing, and left and top of the cut."""
        if self.resize is None:
            return (self.image_size, self.image_size), (0, 0)
        width, height = (int(self.resize * side / min(size)) for side in size)
        left, top = (round((side - self.image_size) / 2) for side in (width, height))
        return (width, height), (left, top)

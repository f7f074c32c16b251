"""What a caller of the Python interface may call an image, as an upright RGB image.

H, W height and width in pixels.
"""

import hashlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from captioning.system.errors import UserError, shown
from captioning.vision.images import decode

if TYPE_CHECKING:
    from typing import BinaryIO, TypeAlias

    import torch

    # a path, the bytes of a file, an open file, a Pillow image, an array or a tensor
    Source: TypeAlias = str | os.PathLike[str] | bytes | bytearray | BinaryIO | Image.Image | np.ndarray | torch.Tensor


class Read(NamedTuple):
    """An RGB image, and a number that its bytes decide: with the seed it decides which words are sampled for it."""

    image: Image.Image
    key: int


def is_one(images: object) -> bool:
    """Is this one image, and not several?"""
    kinds = (str, os.PathLike, bytes, bytearray, Image.Image, np.ndarray)
    return isinstance(images, kinds) or _is_tensor(images) or hasattr(images, "read")


def read(source: object) -> Read:
    """The image that a source is.

    Arrays are (H, W, 3) or (H, W), tensors (3, H, W) or (H, W): uint8, or floats from 0 to 1.
    Raises ImageError for a file that cannot be decoded, OSError for a path that cannot be read, UserError for an
    address (nothing is downloaded) and for an array of another shape or range, TypeError for anything else.
    """
    if isinstance(source, str) and source.split("://")[0] in ("http", "https", "ftp"):
        raise UserError(f"{shown(source)}: addresses are not read; download the image and give its path or bytes")
    if isinstance(source, str | os.PathLike):
        return _file(Path(source).read_bytes(), os.fspath(source))
    if isinstance(source, bytes | bytearray):
        return _file(bytes(source), "image")
    if isinstance(source, Image.Image):
        return _pillow(source)
    if isinstance(source, np.ndarray):
        return _array(source)
    if hasattr(source, "read"):
        data = source.read()
        if not isinstance(data, bytes):
            raise TypeError("an open file must be opened in binary mode: open(path, 'rb')")
        return _file(data, str(getattr(source, "name", "image")))
    if _is_tensor(source):
        tensor: Any = source
        return _array(_channels_last(tensor.detach().cpu().numpy()))
    raise TypeError(f"{type(source).__name__} is no image: give a path, bytes, an open file, a Pillow image, an array")


def _is_tensor(value: object) -> bool:
    """Of torch; where torch is not loaded there is none."""
    return "torch" in sys.modules and isinstance(value, sys.modules["torch"].Tensor)


def _file(data: bytes, name: str) -> Read:
    return Read(decode(data, name), _key(data))


def _pillow(image: Image.Image) -> Read:
    """By way of PNG, so that a Pillow image is read as its file would be: orientation, transparency, 16 bits."""
    stream = io.BytesIO()
    upright = ImageOps.exif_transpose(image)
    (upright if upright.mode in _OF_PNG else upright.convert("RGB")).save(stream, "PNG", compress_level=0)
    return Read(decode(stream.getvalue(), "image"), _key(stream.getvalue()))


_OF_PNG = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")


def _channels_last(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(values, 0, -1) if values.ndim == 3 else values


def _array(values: np.ndarray) -> Read:
    if values.ndim not in (2, 3) or 0 in values.shape or (values.ndim == 3 and values.shape[2] not in (1, 3)):
        raise UserError(
            f"an image of shape {values.shape}: give an array (height, width, 3), a tensor (3, height, width), "
            "or grey ones (height, width)"
        )
    if values.dtype != np.uint8:
        if not np.issubdtype(values.dtype, np.floating):
            raise UserError(f"an image of {values.dtype}: give uint8 from 0 to 255, or floats from 0 to 1")
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise UserError("an image of floats has values outside 0 to 1: scale it, or give uint8")
        values = np.rint(values * 255).astype(np.uint8)
    grey = values.reshape(values.shape[:2]) if values.ndim == 3 and values.shape[2] == 1 else values
    image = Image.fromarray(np.ascontiguousarray(grey)).convert("RGB")
    return Read(image, _key(np.ascontiguousarray(values).tobytes()))


def _key(data: bytes) -> int:
    return int(hashlib.sha256(data).hexdigest()[:16], 16)

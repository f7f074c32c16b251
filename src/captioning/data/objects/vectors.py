"""Vectors of objects: `feature.tsv` in the published layouts, and the box code at the end of each vector.

    feature.tsv     key TAB {"num_boxes": n, "features": base64 of n × 2054 numbers}     captioning
    features.tsv    key TAB n TAB base64 of n × 2054 numbers                              pretraining, retrieval

Numbers are float32, or float16, little-endian: bytes / n / 2054 tells which. The last six of a vector are its box code.

n boxes, D numbers of a vector.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from captioning.data.objects.labels import MOST, Predicted, parse_row
from captioning.data.objects.rows import Row, write
from captioning.system.documents import REMEDY
from captioning.system.errors import UserError
from captioning.vision.images import Box

SEEN = 2048  # numbers of a published vector without its box code
PUBLISHED = SEEN + 6
_KINDS: dict[int, np.dtype[Any]] = {4: np.dtype("<f4"), 2: np.dtype("<f2")}  # by bytes of a number


class _Features(TypedDict):
    num_boxes: Annotated[int, Field(ge=0, le=MOST)]
    features: str


_FEATURES = TypeAdapter(_Features)


def box_code(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """x1/w, y1/h, x2/w, y2/h, (x2 − x1)/w, (y2 − y1)/h of boxes, in an image of `size` w, h: float32 (n, 6)."""
    corners = np.array(boxes, dtype=np.float32).reshape(-1, 4) / np.array([*size, *size], dtype=np.float32)
    return np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1)


def read_vectors(row: Row, width: int = PUBLISHED) -> np.ndarray:
    """The vectors of a row, in either layout, float32 (n, width).

    Raises UserError with file and line when the row is malformed, its bytes are neither n × width float32 nor float16,
    or a number is not finite. The size is compared before anything is decoded.
    """
    count, text = _counted(row)
    return decoded(text, count, width, row.location)


def _counted(row: Row) -> tuple[int, str]:
    """How many vectors a row has, and their base64."""
    if len(row.columns) == 1:
        features = parse_row(row, _FEATURES)
        return features["num_boxes"], features["features"]
    number = row.columns[0]
    if len(row.columns) != 2 or not (number.isascii() and number.isdigit() and len(number) < 6) or int(number) > MOST:
        raise UserError(f"{row.location}: not a key, a number of boxes up to {MOST} and base64; {REMEDY}")
    return int(number), row.columns[1]


def decoded(text: str, count: int, width: int, location: str) -> np.ndarray:
    """Base64 of `count` vectors → float32 (count, width). Raises UserError as `read_vectors` does."""
    size = len(text) // 4 * 3 - text[-2:].count("=")
    kind = next((kind for bytes_, kind in _KINDS.items() if size == count * width * bytes_), None)
    if kind is None or len(text) % 4:
        raise UserError(
            f"{location}: {size:,} bytes are not {count} vectors of {width:,} numbers, float32 or float16; {REMEDY}"
        )
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{location}: not base64; {REMEDY}") from None
    if len(data) != size:
        raise UserError(f"{location}: not base64; {REMEDY}")
    vectors: np.ndarray = np.frombuffer(data, kind).reshape(count, width).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise UserError(f"{location}: a number is not finite; {REMEDY}")
    return vectors


def encoded(vectors: np.ndarray, *, half: bool) -> str:
    """Vectors (n, D) → base64 of float16 or float32."""
    return base64.b64encode(vectors.astype(_KINDS[2 if half else 4]).tobytes()).decode("ascii")


def write_vectors(path: Path, vectors: Iterable[tuple[str, np.ndarray]], *, half: bool = False) -> None:
    """Write a feature.tsv of keys and vectors (n, D), one image at a time, and its index."""
    write(
        path, ((key, json.dumps({"num_boxes": len(one), "features": encoded(one, half=half)})) for key, one in vectors)
    )


def with_code(predicted: Predicted, size: tuple[int, int], location: str, width: int = SEEN) -> np.ndarray:
    """The vectors of a row of predictions.tsv, which have no box code, with theirs: float32 (n, width + 6).

    size: width and height of the image. Raises UserError where an object has no vector, or one of another width.
    """
    if None in predicted.vectors:
        raise UserError(f"{location}: the object {predicted.vectors.index(None) + 1} has no feature; {REMEDY}")
    own = [decoded(text or "", 1, width, location)[0] for text in predicted.vectors]
    return np.concatenate(
        [np.array(own, np.float32).reshape(-1, width), box_code([one.box for one in predicted.objects], size)], 1
    )

"""Vectors of a user's table of objects, in a published layout: put beside that table, and read by a frozen run.

`feature.tsv`, `features.tsv`, or one for each split, has a row for each image, with a vector for each of its objects,
in the order of label.tsv. The stage `objects` leaves them in `vectors.npy`, float16 (M, D): those of the objects that
it keeps, one image after the other. They have no box code, which decoders add.

n objects of an image, M objects of all images, D numbers of a vector, R boxes of an image, the first the whole image.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from captioning.data.objects import tables
from captioning.data.objects.labels import Found, Sizes, read_rows
from captioning.data.objects.rows import Row, Table
from captioning.data.objects.tables import MOST, VECTORS
from captioning.data.objects.vectors import SEEN, box_code, read_vectors
from captioning.system.errors import UserError, shown
from captioning.system.files import atomic, digest
from captioning.system.sealed import DamagedError

if TYPE_CHECKING:
    import pandas as pd

WIDTH = SEEN
_CLOSE = 0.02  # by how much a box code may differ from the rect in label.tsv, as a share of the image's side
_HALF = np.dtype("<f2")


def check_labelled(kind: str, vectors: Sequence[Path], labels: Sequence[Path]) -> None:
    """Raise UserError where there are vectors, and no table of objects beside them, or one whose names are not read.

    kind: the value of the setting `objects`.
    """
    if vectors and not labels:
        raise UserError(
            f"{vectors[0]}: vectors of objects, and no label.tsv beside it says of which; put it there, or remove this"
        )

    if vectors and kind == tables.BOXES:
        raise UserError(
            f"objects = boxes: {vectors[0]} has vectors of objects, which are read with names; write objects: labels, "
            "or take this file away"
        )


def check(trainable: bool, crop: str, engine: str, mirror: bool) -> None:
    """Raise UserError where vectors of whole images cannot be read with these settings of `features`."""
    fixed = {
        "trainable": (trainable, False),
        "crop": (crop, "none"),
        "engine": (engine, "torch"),
        "mirror": (mirror, False),
    }
    for name, (written, wanted) in fixed.items():
        if written != wanted:
            here, needed = (str(value).lower() for value in (written, wanted))
            raise UserError(
                f"features.{name} = {here}, and feature.tsv in download.source has vectors of whole images; "
                f"write {needed}, or take feature.tsv away"
            )


def write(
    folder: Path, vectors: Sequence[Path], labels: Sequence[Path], images: "pd.DataFrame", sizes: Sizes
) -> dict[str, str]:
    """Write `vectors.npy` of the objects that are kept of these images; return what the card's source says of it.

    Raises UserError, with file and line, where an image has no row, or other vectors than label.tsv has objects.
    """
    rows = _Tables(vectors)
    objects = {key: found for path in labels for key, found in read_rows(path).items()}
    named: Iterable[tuple[str, str]] = zip(images["image_id"], images["file"], strict=True)
    keys = [(image, tables.key_of(image, file, objects)) for image, file in named]
    count = sum(min(len(objects[key]), MOST) for _, key in keys if key is not None)
    beside = ", ".join(map(str, labels))
    place = 0
    with atomic(folder / VECTORS) as path:
        array = np.lib.format.open_memmap(path, "w+", _HALF, (count, WIDTH))
        for image, key in keys:
            assert key is not None  # `tables.of_images` refuses such a table
            row = rows.row(key)
            if row is None:
                raise UserError(f"{', '.join(map(str, vectors))}: no row of {shown(key)}, which is in {beside}")
            own = _of_row(row, objects[key], sizes[image], beside)
            array[place : place + len(own)] = own
            place += len(own)
        array.flush()
    return {"vectors": _digest(vectors)}


class _Tables:
    """Rows of several files, by key; they stay on the disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises UserError where a key is in two files."""
        self._tables = [Table(path) for path in paths]
        self._of: dict[str, Table] = {}
        for table in self._tables:
            twice = sorted(self._of.keys() & set(table.keys))
            if twice:
                raise UserError(f"{table.path}: {shown(twice[0])} is in {self._of[twice[0]].path} too; remove one row")
            self._of |= dict.fromkeys(table.keys, table)

    def row(self, key: str) -> Row | None:
        """The row of a key, if there is one."""
        return self._of[key][key] if key in self._of else None


def _of_row(row: Row, objects: Sequence[Found], size: tuple[int, int], labels: str) -> np.ndarray:
    """The vectors of a row that are kept, best first, float16 (n, D). objects: of the same image, in the file's order.

    size: width and height of the image.
    """
    vectors = read_vectors(row)  # (n, D + 6)
    if len(vectors) != len(objects):
        raise UserError(f"{row.location}: {len(vectors)} vectors, and {labels} has {len(objects)} objects of {row.key}")
    codes = box_code([one.box for one in objects], size)
    away = np.abs(vectors[:, WIDTH:] - codes).max(axis=1, initial=0)
    if (away > _CLOSE).any():
        place = int(away.argmax())
        raise UserError(
            f"{row.location}: vector {place + 1} has the box code {_shown(vectors[place, WIDTH:])}, and the rect of "
            f"{objects[place].name} in {labels} has {_shown(codes[place])}; the rows are of other boxes, or images of "
            "another size"
        )
    best = sorted(range(len(objects)), key=lambda index: -objects[index].score)[:MOST]
    half = vectors[best, :WIDTH].astype(_HALF)
    if not np.isfinite(half).all():
        raise UserError(f"{row.location}: a number of {np.abs(vectors).max():.3g} overflows float16; scale the vectors")
    return half


def _shown(code: np.ndarray) -> str:
    return f"[{', '.join(f'{number:.2f}' for number in code)}]"


def _digest(paths: Sequence[Path]) -> str:
    """The digest of the file; of several, that of their digests."""
    digests = [digest(path) for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class Vectors:
    """What `write` left in a folder, from a memory map."""

    def __init__(self, folder: Path, counts: Mapping[str, int]) -> None:
        """counts: objects of each image, in the order of the table.

        Raises DamagedError where these are not the vectors of the table.
        """
        try:
            self._array: np.ndarray = np.load(folder / VECTORS, mmap_mode="r")
        except (OSError, ValueError):
            raise DamagedError(f"{folder / VECTORS}: no array; {tables.AGAIN}") from None
        ends = np.cumsum([0, *counts.values()])
        if self._array.shape != (ends[-1], WIDTH) or self._array.dtype != _HALF:
            raise DamagedError(f"{folder / VECTORS}: not the vectors of {tables.LABELS}; {tables.AGAIN}")
        self._begin = dict(zip(counts, ends, strict=False))
        self._counts = counts
        self._most = 1 + max(counts.values(), default=0)

    def of(self, images: Sequence[str]) -> dict[str, np.ndarray]:
        """means (B, D) and regions (B, R, D) of these images, float16.

        The mean is that of an image's vectors (Anderson et al. 2018), and so is the first region, which is that of the
        whole image. Without any object both are 0.
        """
        regions = np.zeros((len(images), self._most, WIDTH), _HALF)
        for row, image in enumerate(images):
            begin, count = self._begin[image], self._counts[image]
            own = self._array[begin : begin + count]
            regions[row, 1 : 1 + count] = own
            regions[row, 0] = own.mean(0, dtype=np.float32) if count else 0
        return {"means": regions[:, 0].copy(), "regions": regions}

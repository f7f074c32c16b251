"""Attention sheets of many images, as files: of a grid (`attention_maps`) or of objects (`attention_boxes`)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from captioning.captioner.model import Captioner
from captioning.evaluation import attention_boxes, attention_maps
from captioning.evaluation.attending import Attended, attend, refusal
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, write_json
from captioning.vision.contact_sheets import COMPRESSION
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.images import Transform, decode

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 50  # characters of an image's name in that of its sheet


def draw(image: Image.Image, attended: Attended, transform: Transform) -> Image.Image:
    """The sheet of an image: a tile a word, with the boxes of objects, or with the heat of a grid."""
    if attended.boxes is None:
        return attention_maps.draw(image, attended, transform)
    return attention_boxes.draw(image, attended, transform)


def write(
    folder: Path,
    samples: Mapping[str, "pd.DataFrame"],
    images: ImageArchives,
    captioner: Captioner,
    encode: Callable[[int], Encoded],
) -> None:
    """A sheet for each of the images in `report.choose`'s groups: `folder`/GROUP-NN-IMAGE_ID.png, best-01-… first.

    `encode` is told the COCO id of an image. Beside the sheets: index.json, with the grid and each image's words, and
    its boxes where the regions are those of objects; weights.npz, with the weights under each sheet's name without its
    suffix, float16 (T, H, W), or (T, R) of objects.
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
            rows.append({"file": f"{name}.png", "image_id": row.image_id, "words": attended.words, **_boxes(attended)})
        if weights:
            np.savez(temporary / "weights.npz", **weights)  # type: ignore[arg-type]
        grid = None if captioner.card.placed_objects else captioner.encoder.grid
        index = {"decoder": captioner.card.decoder, "grid": grid, "pictures": rows, "refusal": reason}
        write_json(temporary / "index.json", index)


def _boxes(attended: Attended) -> dict[str, Any]:
    """The boxes of objects for index.json, in shares of what the encoder sees."""
    return {} if attended.boxes is None else {"boxes": attended.boxes.astype(float).round(4).tolist()}


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

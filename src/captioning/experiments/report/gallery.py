"""Images of the report: which, and as data URIs small enough to carry along.

I images.
"""

import base64
import io
import random
import zipfile
from collections.abc import Sequence
from typing import Self

import numpy as np
from PIL import Image

from captioning.experiments import recorded
from captioning.experiments.compare import PER_IMAGE, SORT_SCORE, Experiment
from captioning.experiments.outside import CaptionFile
from captioning.experiments.revisions import Revision
from captioning.system.archives import FAULTS
from captioning.system.errors import UserError, reason, shown
from captioning.vision.images import decode

DATA = "data/download"
ATTENTION = "data/evaluate/attention"
_SIDE = 256  # the longest side of a thumbnail, pixels
_SHEET_WIDTH = 960  # of an attention sheet, pixels at most
_QUALITY, _SHEET_QUALITY = 80, 72  # of JPEG


def choose(experiments: Sequence[Experiment], limit: int | None, seed: int) -> list[int]:
    """The COCO ids of at most `limit` test images (None: all), in the order of the data.

    Of several experiments half are those on which they differ most by CIDEr; then come those whose attention was drawn,
    at most half of what is left, and the rest is a random sample: the first of `shuffled` that are not chosen yet.
    """
    ids = list(experiments[0].references)
    if limit is None or limit >= len(ids):
        return ids
    scores = np.stack([experiment.model.means[SORT_SCORE] for experiment in experiments])  # (experiments, I)
    spread = scores.max(0) - scores.min(0)
    selected = [ids[k] for k in np.argsort(-spread, kind="stable")[: limit // 2] if spread[k] > 0]
    with_attention = {image for experiment in experiments for image in attention_files(experiment)}
    selected += sorted(with_attention.difference(selected))[: (limit - len(selected)) // 2]
    rest = [image for image in shuffled(ids, seed) if image not in set(selected)]
    return sorted([*selected, *rest[: limit - len(selected)]])


def shuffled(ids: Sequence[int], seed: int) -> list[int]:
    """The images in an order that knows nothing of scores: the beginning of it is a fair sample, the same each time."""
    return random.Random(seed).sample(ids, len(ids))


def attention_files(experiment: Experiment) -> dict[int, str]:
    """The files of the attention that evaluate drew, by COCO id; none of a model that does not attend."""
    revision = experiment.revision
    if isinstance(revision, CaptionFile) or f"{ATTENTION}/index.json" not in revision.names(ATTENTION):
        return {}
    rows = recorded.rows(revision, PER_IMAGE, ",", "image_id", "coco_id")
    names = [row["image_id"] for row in rows]
    ids = dict(zip(names, recorded.ids(revision, PER_IMAGE, rows, "coco_id"), strict=True))
    index = f"{ATTENTION}/index.json"
    sheets = recorded.read(revision, index, recorded.SHEETS).pictures
    unlisted = [sheet.image_id for sheet in sheets if sheet.image_id not in ids]
    if unlisted:
        raise recorded.damaged(revision, index, f"it has image {unlisted[0]}, which {PER_IMAGE} does not list")
    return {ids[sheet.image_id]: f"{ATTENTION}/{sheet.file}" for sheet in sheets}


def sheets(experiment: Experiment, selected: Sequence[int]) -> dict[int, str]:
    """Where the model looked in the chosen images, as data URIs by COCO id."""
    if isinstance(experiment.revision, CaptionFile):
        return {}
    read, largest = experiment.revision.read, (_SHEET_WIDTH, 10 * _SHEET_WIDTH)
    files = {image: file for image, file in attention_files(experiment).items() if image in set(selected)}
    return {image: _uri(decode(read(file), file), largest, _SHEET_QUALITY) for image, file in files.items()}


class Gallery:
    """Thumbnails of a revision's images, read in place from its archives, which are not unpacked."""

    def __init__(self, revision: Revision) -> None:
        self._revision = revision
        self._open: dict[str, zipfile.ZipFile] = {}

    def thumbnail(self, file: str) -> str:
        """An image (`ARCHIVE.zip/member/path.jpg`) as the data URI of a small JPEG. Same image, same bytes."""
        name, _, member = file.partition("/")
        try:
            if name not in self._open:
                self._open[name] = zipfile.ZipFile(self._revision.open(f"{DATA}/{name}"))
            data = self._open[name].read(member)
        except UserError:
            raise
        except FAULTS as fault:
            raise UserError(
                f"{self._revision.name}: {DATA}/{name} is damaged or lacks {shown(member)} ({shown(reason(fault))}); "
                f"fetch it again with `dvc fetch`, or leave images out with --images 0"
            ) from None
        return _uri(decode(data, file, _SIDE), (_SIDE, _SIDE), _QUALITY)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        for archive in self._open.values():
            archive.close()


def _uri(image: Image.Image, largest: tuple[int, int], quality: int) -> str:
    """An image no larger than `largest` as a data URI."""
    image.thumbnail(largest, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"

"""References and results in the COCO caption formats, so that any outside scorer reads them.

Format: https://cocodataset.org/#format-data (captions) and #format-results.
"""

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pycocotools.coco import COCO

from captioning.system.errors import UserError, reason
from captioning.system.files import atomic, write_json
from captioning.system.sealed import read_document


def references(table: pd.DataFrame, images: pd.DataFrame, split: str) -> dict[str, Any]:
    """The raw captions of one split as a COCO caption document.

    `table` has image_id, caption and split, a row a caption; `images` has image_id, file, split and coco_id.
    """
    of_split = images[images["split"] == split]
    ids = dict(zip(of_split["image_id"], of_split["coco_id"].tolist(), strict=True))
    rows = table[table["split"] == split]
    return {
        "info": {"description": f"references of the {split} split"},
        "licenses": [],
        "type": "captions",
        "images": [{"id": ids[name], "file_name": file} for name, file in zip(ids, of_split["file"], strict=True)],
        "annotations": [
            {"id": index, "image_id": ids[image_id], "caption": caption}
            for index, (image_id, caption) in enumerate(zip(rows["image_id"], rows["caption"], strict=True), start=1)
        ],
    }


def read_references(path: Path) -> dict[int, list[str]]:
    """Read the references that `split` wrote, a COCO caption document: image id → raw captions, in the file's order.

    Raises DamagedError when the file is missing, or not what was written.
    """
    document = index(read_document(path, "run `dvc repro -f split`"))
    return {
        image_id: [annotation["caption"] for annotation in document.imgToAnns[image_id]]
        for image_id in document.getImgIds()
    }


def index(document: Mapping[str, Any]) -> COCO:
    """COCO's own index of a document that is in memory, which it does not check."""
    indexed = COCO()
    indexed.dataset = document
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
        indexed.createIndex()
    return indexed


def write_results(path: Path, captions: Mapping[int, str], references: Path) -> None:
    """Write captions in the COCO results format, once COCO's own reader has accepted them for `references`."""
    results = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    with atomic(path) as temporary:
        write_json(temporary, results)
        with contextlib.redirect_stdout(io.StringIO()):
            _open(references).loadRes(str(temporary))


def _open(path: Path) -> COCO:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
            return COCO(str(path))
    except (OSError, ValueError, KeyError, AssertionError) as fault:
        raise UserError(f"{path}: not a COCO caption file ({type(fault).__name__}: {reason(fault)})") from None

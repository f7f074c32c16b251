"""Who is in which split, and each split as the later stages read it."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd

from captioning.data.splits import coco
from captioning.data.splits.captions import SPLITS
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError
from captioning.system.sealed import write_document, write_table

_INTEGER = re.compile("0|[1-9][0-9]{0,18}")


def choose(captions: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """The captions of at most `limit` images of each split, all if it is None.

    Images are chosen by the SHA-256 of their image_id: the same ones each time, from all over the split, and those of a
    lower limit are among those of a higher one.
    """
    if limit is None:
        return captions
    images = captions[["image_id", "split"]].drop_duplicates()
    drawn = images["image_id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    selected = images.loc[drawn.sort_values().index].groupby("split").head(limit)
    return captions[captions["image_id"].isin(selected["image_id"])]


def assign(captions: pd.DataFrame, limit: int | None = None) -> pd.DataFrame:
    """Decide who is in which split: the one function that `vocab`, `split` and `evaluate` call.

    Takes the caption table (image_id, file, caption, split), of which `choose` takes some, and returns it with `words`,
    the tokenised caption, added; captions without a word are left out. The data set's own split is kept. Raises
    UserError when that leaves a split without captions.
    """
    table = choose(captions, limit)
    table = table.assign(words=table["caption"].map(tokenize))
    table = table[table["words"].map(len) > 0]
    for split in SPLITS:
        if not (table["split"] == split).any():
            raise UserError(f"no caption of the split {split!r} has a word; correct the captions of the data set")
    return table.reset_index(drop=True)


def image_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row an image: image_id, file, split and coco_id, the integer that COCO files use.

    coco_id is image_id itself where all of them are integers of 64 bits, else 1, 2, 3 ... in order of image_id.
    """
    images = table.drop_duplicates("image_id")[["image_id", "file", "split"]]
    order = {split: index for index, split in enumerate(SPLITS)}
    images = images.sort_values("image_id").reset_index(drop=True)
    numeric = images["image_id"].map(_is_integer)
    images["coco_id"] = images["image_id"].astype(int) if numeric.all() else np.arange(1, len(images) + 1)
    return images.sort_values("split", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def _is_integer(name: str) -> bool:
    """Whether a name is a number as COCO's are: without leading zeros, and in 64 bits."""
    return bool(_INTEGER.fullmatch(name)) and int(name) < 2**63


def write(folder: Path, table: pd.DataFrame, vocabulary: Vocabulary, max_words: int) -> pd.DataFrame:
    """Write images.csv, {train,val}.npz and references_{val,test}.json into `folder`; return the image table."""
    images = image_table(table)
    row = {image_id: index for index, image_id in enumerate(images["image_id"])}
    write_table(folder / "images.csv", images.to_csv(index=False, lineterminator="\n"))
    for split in ("train", "val"):
        rows = table[table["split"] == split]
        encoded = EncodedCaptions.encode(rows["words"], [row[name] for name in rows["image_id"]], vocabulary, max_words)
        encoded.write(folder / f"{split}.npz")
    for split in ("val", "test"):
        write_document(folder / f"references_{split}.json", coco.references(table, images, split))
    return images

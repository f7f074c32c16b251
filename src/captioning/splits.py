"""Who is in which split, and each split as the later stages read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from captioning import coco
from captioning.errors import UserError
from captioning.files import atomic, write_json, write_text
from captioning.tokenizer import tokenize
from captioning.vocabulary import BOS, EOS, Vocabulary

SPLITS = ("train", "val", "test")


def assign(captions: pd.DataFrame) -> pd.DataFrame:
    """Decide the split of every image: the one function that both `vocab` and `split` call.

    Takes the caption table (image_id, file, caption, split) and returns it with `words`, the
    tokenised caption, added; captions without a word are left out. The data set's own split is
    kept. Raises UserError when a split has no captions or an image is in two.
    """
    table = captions.assign(words=captions["caption"].map(tokenize))
    table = table[table["words"].map(len) > 0]
    for split in SPLITS:
        if not (table["split"] == split).any():
            raise UserError(f"no caption is in the split {split!r}; the splits are {', '.join(SPLITS)}")
    shared = table.groupby("image_id")["split"].nunique()
    if (shared > 1).any():
        raise UserError(f"image {shared.index[shared > 1][0]} is in more than one split")
    return table.reset_index(drop=True)


def read_captions(path: Path) -> pd.DataFrame:
    """Read the caption table that `download` wrote; every column is text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def image_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row an image: image_id, file, split and coco_id, the integer that COCO files use.

    coco_id is image_id itself where all of them are integers, else 1, 2, 3 ... in order of image_id.
    """
    images = table.drop_duplicates("image_id")[["image_id", "file", "split"]]
    order = {split: index for index, split in enumerate(SPLITS)}
    images = images.sort_values("image_id").reset_index(drop=True)
    numeric = images["image_id"].map(lambda name: str(name).isdecimal() and str(int(name)) == name)
    images["coco_id"] = images["image_id"].astype(int) if numeric.all() else np.arange(1, len(images) + 1)
    return images.sort_values("split", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class EncodedCaptions:
    """The captions of one split as ids, in one flat array.

    tokens: int32 (sum of lengths,), each caption as `<bos> ids <eos>` (a cut one without `<eos>`).
    offsets: int64 (N + 1,), caption i is tokens[offsets[i]:offsets[i + 1]].
    image: int32 (N,), the row of the caption's image in images.csv.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    image: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 (N,): ids a caption, `<bos>` and `<eos>` included."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.image)

    def caption(self, index: int) -> np.ndarray:
        """The ids of caption `index`."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def target_counts(self, size: int) -> np.ndarray:
        """int64 (size,): how often each id of a vocabulary of `size` follows another one in these captions."""
        follows = np.ones(len(self.tokens), dtype=bool)
        follows[self.offsets[:-1]] = False
        return np.bincount(self.tokens[follows], minlength=size)

    @classmethod
    def encode(
        cls, captions: Sequence[Sequence[str]], image: Sequence[int], vocabulary: Vocabulary, max_words: int
    ) -> "EncodedCaptions":
        """Encode tokenised captions. One longer than `max_words` is cut there, and has no `<eos>`."""
        encoded = []
        for words in captions:
            end = [EOS] if len(words) <= max_words else []
            encoded.append([BOS, *vocabulary.encode(words[:max_words]), *end])
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        flat = np.fromiter((index for ids in encoded for index in ids), dtype=np.int32, count=int(offsets[-1]))
        return cls(flat, offsets, np.asarray(image, dtype=np.int32))

    def write(self, path: Path) -> None:
        """Write an `.npz` file; the same captions give the same bytes."""
        with atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, tokens=self.tokens, offsets=self.offsets, image=self.image)

    @classmethod
    def read(cls, path: Path) -> "EncodedCaptions":
        """Read what `write` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["tokens"], arrays["offsets"], arrays["image"])


def write(folder: Path, table: pd.DataFrame, vocabulary: Vocabulary, max_words: int) -> pd.DataFrame:
    """Write images.csv, {train,val}.npz and references_{val,test}.json into `folder`; return the image table."""
    images = image_table(table)
    row = {image_id: index for index, image_id in enumerate(images["image_id"])}
    write_text(folder / "images.csv", images.to_csv(index=False, lineterminator="\n"))
    for split in ("train", "val"):
        rows = table[table["split"] == split]
        encoded = EncodedCaptions.encode(
            rows["words"].tolist(), [row[name] for name in rows["image_id"]], vocabulary, max_words
        )
        encoded.write(folder / f"{split}.npz")
    for split in ("val", "test"):
        write_json(folder / f"references_{split}.json", coco.references(table, images, split))
    return images


def read_images(path: Path) -> pd.DataFrame:
    """Read images.csv: image_id, file, split (text) and coco_id (integer)."""
    return pd.read_csv(path, dtype={"image_id": str, "file": str, "split": str}, keep_default_na=False)

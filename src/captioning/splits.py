"""Who is in which split, and each split as the later stages read it."""

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from captioning import coco
from captioning.captions import SPLITS
from captioning.errors import UserError
from captioning.files import atomic, write_json, write_text
from captioning.tokenizer import tokenize
from captioning.vocabulary import BOS, EOS, Vocabulary


def choose(captions: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """The captions of at most `limit` images of each split, all if it is None.

    Images are chosen by the SHA-256 of their image_id: the same ones each time, from all over the split, and those of a
    lower limit are among those of a higher one.
    """
    if limit is None:
        return captions
    images = captions[["image_id", "split"]].drop_duplicates()
    drawn = images["image_id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    chosen = images.loc[drawn.sort_values().index].groupby("split").head(limit)
    return captions[captions["image_id"].isin(chosen["image_id"])]


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
        cls, captions: Iterable[Sequence[str]], image: Sequence[int], vocabulary: Vocabulary, max_words: int
    ) -> "EncodedCaptions":
        """Encode tokenised captions. One longer than `max_words` is cut there, and has no `<eos>`."""
        tokens, offsets = array("i"), array("q", [0])
        for words in captions:
            tokens.append(BOS)
            tokens.extend(vocabulary.encode(words[:max_words]))
            if len(words) <= max_words:
                tokens.append(EOS)
            offsets.append(len(tokens))
        return cls(np.array(tokens, np.int32), np.array(offsets, np.int64), np.asarray(image, dtype=np.int32))

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
        encoded = EncodedCaptions.encode(rows["words"], [row[name] for name in rows["image_id"]], vocabulary, max_words)
        encoded.write(folder / f"{split}.npz")
    for split in ("val", "test"):
        write_json(folder / f"references_{split}.json", coco.references(table, images, split))
    return images


def read_images(path: Path) -> pd.DataFrame:
    """Read images.csv: image_id, file, split (text) and coco_id (integer)."""
    return pd.read_csv(path, dtype={"image_id": str, "file": str, "split": str}, keep_default_na=False)

"""The feature store: what the model reads of every image, prepared once and read through memory maps.

    index.json              what is in the store: image ids in row order, transform, encoder, digests of the shards;
                            where regions are vectors of objects, the kind of these, and the digest of their table
    means-00000.npy …       a frozen encoder's mean features, float16 (N, D)
    regions-00000.npy …     its regions, float16 (N, R, D), for a decoder that attends
    mirrored_means-…, mirrored_regions-…    the same of the mirrored images, where `features.mirror` asks for them
    pixels-00000.npy …      resized images, uint8 (N, 3, S, S), for an encoder that is trained

Each array is cut into shards, files of so many rows; `extraction` writes them.

N images, B images a batch, R regions, D feature width, E width of what is found, L tags, S side in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioning.system.errors import UserError, reason
from captioning.system.files import digest
from captioning.system.sealed import read_document
from captioning.vision.features.places import StoredPlaces
from captioning.vision.images import Transform

FORMAT = 3
_AGAIN = "run `dvc repro -f features`"
ARRAYS = ("means", "regions", "mirrored_means", "mirrored_regions", "pixels")


class Sharded:
    """An array (N, …) in shards of `rows_per_shard` rows, the last one maybe shorter; it stays on disk."""

    def __init__(self, shards: Sequence[np.ndarray], rows_per_shard: int) -> None:
        self.shards, self.rows_per_shard = shards, rows_per_shard
        self.shape: tuple[int, ...] = (sum(map(len, shards)), *shards[0].shape[1:])
        self.dtype = shards[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Rows (B,), in any order → a copy of them (B, …)."""
        shard, row = np.divmod(rows, self.rows_per_shard)
        selected = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for index in np.unique(shard):
            here = shard == index
            selected[here] = self.shards[index][row[here]]
        return selected


class FeatureStore:
    """A store, opened for reading. `ids` are its image ids, in row order.

    means float16 (N, D), regions float16 (N, R, D), pixels uint8 (N, 3, S, S): read by memory map, None where absent;
    mirrored_means and mirrored_regions: those of the mirrored images. objects: what objects the regions are vectors of,
    by the record of the store; empty where they are of a grid, or where there are pixels. by_no_encoder: these vectors
    are a user's, or a detector's. places: where the objects are; None without objects. tags: ids of words that are
    tags of the images and, behind them, of the mirrored ones if there are any, (1 or 2, N, L); None where tags are the
    names of objects, or there are none. neighbours: what captions of neighbours say, float16 (1 or 2, N, E), which is
    read as one more region (see `encodings.widened`); or None.
    """

    places: StoredPlaces | None = None
    tags: np.ndarray | None = None
    neighbours: np.ndarray | None = None

    def __init__(self, folder: Path, image_ids: Sequence[str]) -> None:
        """Open the store in `folder`, which must have been made for `image_ids`, in this order.

        Raises UserError when it was made for others, or when a file is missing or does not match the index.
        """
        index = read_document(folder / "index.json", _AGAIN)
        if index.get("format") != FORMAT:
            raise UserError(f"{folder / 'index.json'}: not of this version's format; {_AGAIN}")
        self.ids: list[str] = index["ids"]
        if self.ids != list(image_ids):
            raise UserError(f"{folder}: made for other images than data/split/images.csv; {_AGAIN}")
        self.transform = Transform(**index["transform"])
        self.objects: dict[str, str] = index.get("objects", {})
        self.by_no_encoder = index["kind"] == "features" and index["encoder"] is None
        rows = index["rows_per_shard"]
        arrays = {
            name: Sharded([_open(folder / file, expected) for file, expected in sorted(shards.items())], rows)
            for name, shards in index["arrays"].items()
        }
        self.means, self.regions, self.mirrored_means, self.mirrored_regions, self.pixels = map(arrays.get, ARRAYS)

    @property
    def dim(self) -> int:
        """D, of a store of features; D + E with captions of neighbours."""
        assert self.means is not None
        return int(self.means.shape[1]) + (0 if self.neighbours is None else self.neighbours.shape[2])


def _open(path: Path, expected: dict[str, Any]) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, though index.json names it; {_AGAIN}") from None
    except (ValueError, OSError) as fault:
        raise UserError(f"{path}: cannot be read ({reason(fault)}); {_AGAIN}") from None
    actual = f"{array.dtype} {list(array.shape)}"
    wanted = f"{expected['dtype']} {expected['shape']}"
    if actual != wanted:
        raise UserError(f"{path}: {actual}, but index.json says {wanted}; {_AGAIN}")
    if digest(path) != expected["sha256"]:
        raise UserError(f"{path}: damaged: not the file that index.json describes; {_AGAIN}")
    return array

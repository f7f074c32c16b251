"""The feature store: what the model reads of every picture, prepared once and read by memory map.

    index.json     what is in the store: image ids in row order, transform, digests
    means.npy      a frozen encoder's mean features, float16 (N, D)
    regions.npy    its regions, float16 (N, R, D), where a decoder attends
    pixels.npy     resized pictures, uint8 (N, 3, S, S), for an encoder that is trained

N images, B images a batch, R regions, D feature width, S side in pixels.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from captioning.archives import Pictures
from captioning.encoders import Encoder
from captioning.errors import UserError
from captioning.files import atomic, read_json, write_json
from captioning.images import Transform, decode

_DECODERS = 2  # threads that decode; Pillow lets go of the interpreter while it does
_AHEAD = 4  # batches decoded ahead of the encoder
_PIXELS_AT_ONCE = 256
_HALF_MAX = float(np.finfo(np.float16).max)


class FeatureStore:
    """A store in `folder`, opened for reading; rows are in the order of `image_ids`.

    means float16 (N, D), regions float16 (N, R, D), pixels uint8 (N, 3, S, S): memory maps, or None where absent.
    Raises UserError when the store was made for other images, or a file of it is missing or another.
    """

    def __init__(self, folder: Path, image_ids: Sequence[str]) -> None:
        index = read_json(folder / "index.json")
        if index["image_ids"] != list(image_ids):
            raise UserError(f"{folder}: made for other images than data/split/images.csv; run `dvc repro features`")
        self.transform = Transform(**index["transform"])
        arrays = {name: _open(folder / f"{name}.npy", shape) for name, shape in index["shapes"].items()}
        self.means, self.regions, self.pixels = (arrays.get(name) for name in ("means", "regions", "pixels"))

    @property
    def dim(self) -> int:
        """D, of a store of features."""
        assert self.means is not None
        return int(self.means.shape[1])


def _open(path: Path, shape: list[int]) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as fault:
        raise UserError(f"{path}: cannot be read ({fault}); run `dvc repro features`") from None
    if list(array.shape) != shape:
        raise UserError(f"{path}: shape {list(array.shape)}, index.json says {shape}; run `dvc repro features`")
    return array


def write_pixels(folder: Path, pictures: Pictures, images: pd.DataFrame, transform: Transform) -> None:
    """Decode and resize every picture of `images` (image_id, file) once: for an encoder that is trained."""
    with _Writer(folder, images, transform) as writer:
        for batch in _decoded(pictures, images["file"].tolist(), transform, _PIXELS_AT_ONCE):
            writer.append("pixels", batch)


def write_means(
    folder: Path, pictures: Pictures, images: pd.DataFrame, transform: Transform, encoder: Encoder, batch_size: int
) -> None:
    """Encode every picture once, and keep the mean of its regions: for a decoder that does not attend.

    Raises UserError when a feature does not fit half precision.
    """
    with _Writer(folder, images, transform) as writer:
        for regions in _encoded(pictures, images, transform, encoder, batch_size):
            writer.append("means", _half(regions.mean(1)))


def write_regions(
    folder: Path, pictures: Pictures, images: pd.DataFrame, transform: Transform, encoder: Encoder, batch_size: int
) -> None:
    """Encode every picture once, and keep its regions and their mean: for a decoder that attends."""
    with _Writer(folder, images, transform) as writer:
        for regions in _encoded(pictures, images, transform, encoder, batch_size):
            writer.append("means", _half(regions.mean(1)))
            writer.append("regions", _half(regions))


@torch.inference_mode()
def _encoded(
    pictures: Pictures, images: pd.DataFrame, transform: Transform, encoder: Encoder, batch_size: int
) -> Iterator[torch.Tensor]:
    """Regions (B, R, D), batch by batch in the order of `images`; the next batches are decoded meanwhile."""
    device = next(encoder.parameters()).device
    for batch in _decoded(pictures, images["file"].tolist(), transform, batch_size):
        yield encoder(torch.from_numpy(batch).to(device))


def _half(features: torch.Tensor) -> np.ndarray:
    largest = float(features.abs().max())
    if not largest <= _HALF_MAX:
        raise UserError(f"the encoder gives features up to {largest:.3g}, which half precision does not hold")
    return features.half().cpu().numpy()


def _decoded(pictures: Pictures, files: list[str], transform: Transform, batch_size: int) -> Iterator[np.ndarray]:
    """Pixels uint8 (B, 3, S, S), in order, decoded by threads a bounded number of batches ahead."""

    def one(file: str) -> np.ndarray:
        return transform.pixels(decode(pictures.read(file), file))

    starts = iter(range(0, len(files), batch_size))
    waiting: deque[list[Future[np.ndarray]]] = deque()
    with ThreadPoolExecutor(_DECODERS) as pool, tqdm(total=len(files), unit="picture", desc="features") as bar:
        try:
            for start in starts:
                waiting.append([pool.submit(one, file) for file in files[start : start + batch_size]])
                if len(waiting) > _AHEAD:
                    yield _collect(waiting.popleft(), bar)
            while waiting:
                yield _collect(waiting.popleft(), bar)
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(batch: list[Future[np.ndarray]], bar: Any) -> np.ndarray:
    pixels = np.stack([future.result() for future in batch])
    bar.update(len(batch))
    return pixels


class _Writer:
    """Writes a store: arrays grow by plain appends, so memory stays flat; the folder appears when it is whole."""

    def __init__(self, folder: Path, images: pd.DataFrame, transform: Transform) -> None:
        self._ids = images["image_id"].tolist()
        self._transform = transform
        self._stack = ExitStack()
        self._folder = folder
        self._open: dict[str, tuple[Any, Any, list[int]]] = {}

    def __enter__(self) -> "_Writer":
        self._temporary = self._stack.enter_context(atomic(self._folder))
        self._temporary.mkdir()
        return self

    def append(self, name: str, rows: np.ndarray) -> None:
        """Append rows (B, …) to array `name`; the first rows fix its shape."""
        if name not in self._open:
            shape = [len(self._ids), *rows.shape[1:]]
            stream = self._stack.enter_context((self._temporary / f"{name}.npy").open("wb"))
            header = {"descr": np.lib.format.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(stream, header)
            self._open[name] = (stream, hashlib.sha256(), shape)
        stream, sha, _ = self._open[name]
        data = np.ascontiguousarray(rows).data
        stream.write(data)
        sha.update(data)

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        if fault is None:
            for stream, _, _ in self._open.values():
                stream.flush()
            index = {
                "image_ids": self._ids,
                "transform": asdict(self._transform),
                "shapes": {name: shape for name, (_, _, shape) in self._open.items()},
                "sha256": {name: sha.hexdigest() for name, (_, sha, _) in self._open.items()},
            }
            write_json(self._temporary / "index.json", index)
        self._stack.__exit__(kind, fault, trace)

"""The feature store: what the model reads of every picture, prepared once and read through memory maps.

    index.json     what is in the store: image ids in row order, transform, encoder, digests
    means.npy      a frozen encoder's mean features, float16 (N, D)
    regions.npy    its regions, float16 (N, R, D), for a decoder that attends
    pixels.npy     resized pictures, uint8 (N, 3, S, S), for an encoder that is trained

N images, B images a batch, R regions, D feature width, S side in pixels.
"""

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from captioning.archives import Pictures
from captioning.encoders import Encoder, folded
from captioning.errors import UserError
from captioning.files import atomic, read_json, write_json
from captioning.images import Transform, decode

FORMAT = 1
THREADS = os.cpu_count() or 1  # that decode; Pillow lets go of the interpreter while it does
_AHEAD = 2  # batches that are decoded while one is encoded
_PIXELS_AT_ONCE = 64  # pictures a batch where no encoder runs


class FeatureStore:
    """A store, opened for reading. `ids` are its image ids, in row order.

    means float16 (N, D), regions float16 (N, R, D), pixels uint8 (N, 3, S, S): memory maps, or None where absent.
    """

    def __init__(self, folder: Path, image_ids: Sequence[str]) -> None:
        """Open the store in `folder`, which must have been made for `image_ids`, in this order.

        Raises UserError when it was made for others, or when a file is missing or is not what the index says.
        """
        index = read_json(folder / "index.json")
        if index.get("format") != FORMAT:
            raise UserError(f"{folder / 'index.json'}: not of this version's format; run `dvc repro features`")
        self.ids: list[str] = index["ids"]
        if self.ids != list(image_ids):
            raise UserError(f"{folder}: made for other images than data/split/images.csv; run `dvc repro features`")
        self.transform = Transform(**index["transform"])
        arrays = {name: _open(folder / f"{name}.npy", array) for name, array in index["arrays"].items()}
        self.means, self.regions, self.pixels = (arrays.get(name) for name in ("means", "regions", "pixels"))

    @property
    def dim(self) -> int:
        """D, of a store of features."""
        assert self.means is not None
        return int(self.means.shape[1])


def _open(path: Path, expected: dict[str, Any]) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, though index.json names it; run `dvc repro features`") from None
    except ValueError as fault:
        raise UserError(f"{path}: cannot be read ({fault}); run `dvc repro features`") from None
    found = f"{array.dtype} {list(array.shape)}"
    wanted = f"{expected['dtype']} {expected['shape']}"
    if found != wanted:
        raise UserError(f"{path}: {found}, but index.json says {wanted}; run `dvc repro features`")
    return array


def write_pixels(
    folder: Path, pictures: Pictures, images: pd.DataFrame, transform: Transform, *, threads: int = THREADS
) -> None:
    """Decode and resize every picture of `images` (image_id, file) once: for an encoder that is trained.

    Raises UserError, with the file's name, when a picture cannot be decoded.
    """
    with _store(folder, images, transform, encoder=None) as append:
        for batch in _decoded(pictures, images, transform, _PIXELS_AT_ONCE, threads):
            append("pixels", batch)


def write_means(
    folder: Path,
    pictures: Pictures,
    images: pd.DataFrame,
    transform: Transform,
    encoder: Encoder,
    batch_size: int,
    *,
    threads: int = THREADS,
) -> None:
    """Encode every picture of `images` (image_id, file) once and keep its mean: for a decoder that does not attend.

    Raises UserError, with the file's name, when a picture cannot be decoded or a feature is no float16.
    """
    with _store(folder, images, transform, encoder) as append:
        for files, regions in _encoded(pictures, images, transform, encoder, batch_size, threads):
            append("means", _half(regions.mean(1), files))


def write_regions(
    folder: Path,
    pictures: Pictures,
    images: pd.DataFrame,
    transform: Transform,
    encoder: Encoder,
    batch_size: int,
    *,
    threads: int = THREADS,
) -> None:
    """As `write_means`, and keep the regions too: for a decoder that attends."""
    with _store(folder, images, transform, encoder) as append:
        for files, regions in _encoded(pictures, images, transform, encoder, batch_size, threads):
            append("means", _half(regions.mean(1), files))
            append("regions", _half(regions, files))


def _half(features: Tensor, files: Sequence[str]) -> np.ndarray:
    """(B, …) as float16, the features of `files`."""
    half = features.half()
    finite = half.isfinite().flatten(1).all(1)
    if not finite.all():
        file, found = next((file, row) for file, row, good in zip(files, features, finite, strict=True) if not good)
        raise UserError(f"{file}: a feature of {found.abs().max():.3g} is too large for float16; say another encoder")
    return half.cpu().numpy()


@torch.inference_mode()
def _encoded(
    pictures: Pictures, images: pd.DataFrame, transform: Transform, encoder: Encoder, batch_size: int, threads: int
) -> Iterator[tuple[list[str], Tensor]]:
    """Files and their regions (B, R, D), in the order of `images`, while the next batches are decoded.

    The last batch is filled up: kernels are chosen by shape, and no row may depend on how many others there are.
    """
    encoder = folded(encoder)
    files = images["file"].tolist()
    batch = torch.zeros(batch_size, 3, transform.image_size, transform.image_size, dtype=torch.uint8)
    done = 0
    for pixels in _decoded(pictures, images, transform, batch_size, threads):
        batch[: len(pixels)] = torch.from_numpy(pixels)
        yield files[done : done + len(pixels)], encoder(batch.to(encoder.scale.device))[: len(pixels)]
        done += len(pixels)


def _decoded(
    pictures: Pictures, images: pd.DataFrame, transform: Transform, batch_size: int, threads: int
) -> Iterator[np.ndarray]:
    """Pixels uint8 (B, 3, S, S), in the order of `images`."""

    def pixels(file: str) -> np.ndarray:
        return transform.pixels(decode(pictures.read(file), file))

    with tqdm(total=len(images), unit="image", desc="features") as bar:
        for batch in _batched(pixels, images["file"].tolist(), batch_size, threads):
            yield np.stack(batch)
            bar.update(len(batch))


def _batched(
    function: Callable[[str], np.ndarray], files: list[str], batch_size: int, threads: int
) -> Iterator[list[np.ndarray]]:
    """`function` of each file, in order and in batches; threads work at most `_AHEAD` batches ahead."""
    waiting: deque[list[Future[np.ndarray]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, len(files), batch_size):
            waiting.append([pool.submit(function, file) for file in files[start : start + batch_size]])
            if len(waiting) > _AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _store(
    folder: Path, images: pd.DataFrame, transform: Transform, encoder: Encoder | None
) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Yield a function that appends rows (B, …) to a named array; the folder appears when it is whole."""
    arrays: dict[str, _Array] = {}
    with atomic(folder) as temporary, ExitStack() as streams:
        temporary.mkdir()

        def append(name: str, rows: np.ndarray) -> None:
            if name not in arrays:
                stream = streams.enter_context((temporary / f"{name}.npy").open("wb"))
                arrays[name] = _Array(stream, (len(images), *rows.shape[1:]), rows.dtype)
            arrays[name].append(rows)

        yield append
        index = {
            "format": FORMAT,
            "kind": "features" if encoder else "pixels",
            "ids": images["image_id"].tolist(),
            "transform": asdict(transform),
            "encoder": {"name": encoder.name, "sha256": _digest(encoder)} if encoder else None,
            "arrays": {name: array.describe() for name, array in arrays.items()},
        }
        write_json(temporary / "index.json", index)


class _Array:
    """A .npy file that grows by plain appends: memory stays flat, and its digest is known at the end."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Begin a file of rows, `shape` in all."""
        self._stream, self._shape, self._dtype = stream, shape, dtype
        self._digest = hashlib.sha256()
        header = io.BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        self._put(header.getbuffer())

    def _put(self, data: memoryview) -> None:
        self._stream.write(data)
        self._digest.update(data)

    def append(self, rows: np.ndarray) -> None:
        """Append rows (B, …)."""
        self._put(np.ascontiguousarray(rows, self._dtype).data)

    def describe(self) -> dict[str, Any]:
        """What the index says of the file."""
        return {"dtype": str(self._dtype), "shape": self._shape, "sha256": self._digest.hexdigest()}


def _digest(encoder: Encoder) -> str:
    """One digest of the names and values of all that the encoder computes with."""
    state = hashlib.sha256()
    for name, tensor in sorted(encoder.body.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()

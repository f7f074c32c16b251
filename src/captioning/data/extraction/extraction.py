"""The feature store, written: every image is decoded once, and its features or pixels go to shards.

A shard appears when it is whole. Until all are, they are in a scratch folder, so that a run that was killed goes on
from its last whole shard and ends with the same bytes. Several processes write shards in turns.

N images, B images a batch, R regions, D feature width, S side in pixels.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning_fabric import Fabric
from tqdm import tqdm

from captioning.data.extraction.encoding import Encode, Rows, by_torch
from captioning.data.extraction.engines import Run
from captioning.data.extraction.npy import GrowingArray
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, digest, link, move
from captioning.system.locks import alone, if_free
from captioning.system.sealed import DamagedError, read_document, write_document
from captioning.system.side_by_side import in_order
from captioning.vision.encoders.encoders import Encoder, folded
from captioning.vision.features.store import FORMAT
from captioning.vision.images import Transform, decode

THREADS = os.cpu_count() or 1  # that decode and encode; Pillow and torch release the interpreter lock meanwhile

Stream = Generator[Rows, None, None]


@dataclass(frozen=True)
class Extractor:
    """What is stored of an image: `extract` takes files and yields their rows, `batch_size` images at a time."""

    kind: str
    transform: Transform
    encoder: Mapping[str, str] | None
    batch_size: int
    extract: Callable[[list[str]], Stream]
    objects: Mapping[str, str] | None = None  # whose vectors the regions are: `tables.of_vectors`


def pixels(image_files: ImageArchives, transform: Transform, batch_size: int, *, threads: int = THREADS) -> Extractor:
    """Resized images, uint8 (B, 3, S, S), for an encoder that is trained.

    Extracting raises UserError, with the file's name, when an image cannot be decoded.
    """

    def rows(files: list[str]) -> Rows:
        return {"pixels": read_pixels(image_files, files, transform)}

    return Extractor("pixels", transform, None, batch_size, partial(_in_batches, rows, batch_size, threads))


def features(
    image_files: ImageArchives,
    encoder: Encoder,
    keep: Sequence[str],
    batch_size: int,
    *,
    mirror: bool = False,
    boxes: Mapping[str, np.ndarray] | None = None,
    objects: Mapping[str, str] | None = None,
    runs: Callable[[Encoder], Sequence[Run]] = by_torch,
    threads: int = THREADS,
) -> Extractor:
    """The output of a frozen encoder, float16: `keep` names means (B, D), regions (B, R, D), or both.

    mirror: the same of the mirrored images, as mirrored_means and mirrored_regions; they are decoded once.
    boxes: of each file, (R, 4), shares of what is seen: the regions are vectors at these boxes then, not of the grid.
    objects: what these are, as `tables.of_vectors` has it.
    runs: how the encoder, whose BatchNorm is folded then, is run, as often as it may run at once.
    Extracting raises UserError, with the file's name, when an image cannot be decoded or a feature is no float16.
    """

    def extract(files: list[str]) -> Stream:
        network = folded(encoder)
        encode = Encode(network, runs(network), keep, batch_size, mirror, boxes)

        def rows(files: list[str]) -> Rows:
            return encode(read_pixels(image_files, files, encoder.transform), files)

        yield from _in_batches(rows, batch_size, threads, files)

    described = {"name": encoder.name, "sha256": _state_digest(encoder)}
    return Extractor("features", encoder.transform, described, batch_size, extract, objects)


def given(
    rows: Callable[[list[str]], Rows],
    transform: Transform,
    objects: Mapping[str, str],
    batch_size: int,
    *,
    threads: int = 1,
) -> Extractor:
    """Vectors of objects that no encoder makes. rows: those of files. objects: as for `features`."""
    return Extractor("features", transform, None, batch_size, partial(_in_batches, rows, batch_size, threads), objects)


def write(
    folder: Path, images: pd.DataFrame, extractor: Extractor, shard_size: int, unfinished: Path, fabric: Fabric
) -> None:
    """Write the store of `images` (image_id, file), in shards of `shard_size` images, rounded up to whole batches.

    `unfinished` is a scratch folder that belongs to these images, this extractor and this code. Whole shards in it are
    used again. A whole store stays there under second names, until one with another key is whole: experiments that
    differ only in later settings write it once. Rank r of W writes shards r, r + W, …; rank 0 writes the index.
    Raises UserError as `extractor` does, and when another machine's shards are not to be seen here.
    """
    rows = -(-shard_size // extractor.batch_size) * extractor.batch_size  # no batch is in two shards
    shards = [images["file"].iloc[start : start + rows].tolist() for start in range(0, len(images), rows)]
    work = _Work(unfinished)
    lock = _lock(unfinished)
    with alone(lock) if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            work.sweep()
        fabric.barrier()
        _fill(work, shards, extractor, fabric)
        fabric.barrier()
        if fabric.is_global_zero:
            work.finish(folder, len(shards), _index(images, extractor, rows))
        fabric.barrier()


def _fill(work: "_Work", shards: list[list[str]], extractor: Extractor, fabric: Fabric) -> None:
    """Write the shards of this process, each the files of its images, that are not whole yet."""
    mine = [index for index in range(fabric.global_rank, len(shards), fabric.world_size) if not work.whole(index)]
    files = [file for index in mine for file in shards[index]]
    if mine and len(files) < sum(map(len, shards[fabric.global_rank :: fabric.world_size])):
        tqdm.write(f"going on: {len(files):,} images are left")
    with (
        closing(extractor.extract(files)) as batches,
        tqdm(total=len(files), unit="image", desc="features", disable=not fabric.is_global_zero) as bar,
    ):
        for index in mine:
            count = len(shards[index])
            work.write(index, count, _with_progress(islice(batches, -(-count // extractor.batch_size)), bar))


def _with_progress(batches: Iterator[Rows], bar: "tqdm[Any]") -> Iterator[Rows]:
    for batch in batches:
        yield batch
        bar.update(len(next(iter(batch.values()))))


def _index(images: pd.DataFrame, extractor: Extractor, rows: int) -> dict[str, Any]:
    """All of index.json except the arrays."""
    of_objects = {} if extractor.objects is None else {"objects": dict(extractor.objects)}
    return {
        **of_objects,
        "format": FORMAT,
        "kind": extractor.kind,
        "ids": images["image_id"].tolist(),
        "transform": asdict(extractor.transform),
        "encoder": extractor.encoder,
        "rows_per_shard": rows,
    }


class _Work:
    """Shards that are whole, in a scratch folder: the files, and beside them a record of each shard's digests."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._store, self._records = folder, folder / "store", folder / "records"

    def sweep(self) -> None:
        """Make the folder, and remove what a killed run left half-written in it."""
        self._store.mkdir(parents=True, exist_ok=True)
        for path in self._store.glob(".*"):
            path.unlink()

    def _record(self, index: int) -> Path:
        return self._records / f"{index:05}.json"

    def whole(self, index: int) -> bool:
        """Is the shard there, every byte of it?"""
        try:
            arrays = read_document(self._record(index), "")
        except DamagedError:
            return False
        files = [(self._store / file, array["sha256"]) for file, array in arrays.items()]
        return all(path.is_file() and digest(path) == expected for path, expected in files)

    def write(self, index: int, count: int, batches: Iterator[Rows]) -> None:
        """Write the arrays of one shard of `count` images, and then its record."""
        arrays: dict[str, GrowingArray] = {}
        with ExitStack() as files:
            for batch in batches:
                for name, values in batch.items():
                    file = f"{name}-{index:05}.npy"
                    if file not in arrays:
                        temporary = files.enter_context(atomic(self._store / file))
                        stream = files.enter_context(temporary.open("wb"))
                        arrays[file] = GrowingArray(stream, (count, *values.shape[1:]), values.dtype)
                    arrays[file].append(values)
        write_document(self._record(index), {file: array.describe() for file, array in arrays.items()})

    def finish(self, folder: Path, count: int, index: dict[str, Any]) -> None:
        """Write the index of `count` shards, give the store to `folder`, and remove whole stores of other keys."""
        arrays: dict[str, dict[str, Any]] = {}
        for number in range(count):
            for file, array in read_document(self._record(number), "all machines must share this folder").items():
                arrays.setdefault(file.rpartition("-")[0], {})[file] = array
        write_document(self._store / "index.json", {**index, "arrays": arrays})
        links = self._folder / "given"
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir()
        for path in sorted(self._store.iterdir()):
            link(path, links / path.name)
        move(links, folder)
        others = {path.parents[1] for path in self._folder.parent.glob("*/store/index.json")} - {self._folder}
        for other in sorted(others):
            with if_free(_lock(other)) as free:
                if free:
                    shutil.rmtree(other, ignore_errors=True)  # nothing that a later run misses


def _lock(unfinished: Path) -> Path:
    return unfinished.with_name(f".{unfinished.name}.lock")


def read_pixels(image_files: ImageArchives, files: list[str], transform: Transform) -> np.ndarray:
    """Pixels uint8 (B, 3, S, S), in the order of `files`."""
    return np.stack([transform.pixels(decode(image_files.read(file), file)) for file in files])


def _in_batches(rows: Callable[[list[str]], Rows], batch_size: int, threads: int, files: list[str]) -> Stream:
    """`rows` of each batch of files, in order."""
    return in_order(rows, (files[start : start + batch_size] for start in range(0, len(files), batch_size)), threads)


def _state_digest(encoder: Encoder) -> str:
    """One digest of the names and values of all that the encoder computes with."""
    state = hashlib.sha256()
    for name, tensor in sorted(encoder.body.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()

"""What an image looks like, in 256 bits, and the search for images that look alike.

The hash is pHash (Zauner 2010) with more bits: of the image in 32 × 32 grey pixels, which of the 16 × 16 lowest
frequencies are above their median. It survives another size, stronger compression, lost colour and other brightness,
but neither a mirror nor a crop of more than some 2 % a side. It is computed in whole numbers: the same everywhere.

N, Q images.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from captioning.system.archives import ImageArchives
from captioning.vision.images import decode

BITS = 256
RADIUS = 31  # bits, of images that look alike: see `nearest` and docs/datasets.md
_SIDE, _FREQUENCIES, _SCALE = 32, 16, 1 << 12
_DECODED = 2 * _SIDE  # pixels; a JPEG need not be decoded larger
_PLAIN = 1.0  # grey levels
_BANDS, _WIDTH = 16, 16  # the hash in so many parts of so many bits
_AT_ONCE = 64  # images a task of a thread
_CANDIDATES = 1 << 18  # pairs compared at once, which bounds memory
THREADS = os.cpu_count() or 1  # that decode; Pillow lets go of the interpreter while it does


class Fingerprints(NamedTuple):
    """What is known of N images.

    digest: the SHA-256 of each file. bits: uint64 (N, 4), how it looks. plain: bool (N,), too even for `bits` to say
    anything, such as an image of one colour.
    """

    digest: list[bytes]
    bits: np.ndarray
    plain: np.ndarray


def read(images: ImageArchives, files: Sequence[str], *, threads: int = THREADS) -> Fingerprints:
    """Read and decode each image once. Raises UserError, with the file's name, when one cannot be decoded."""
    tasks = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]

    def fingerprints(names: Sequence[str]) -> list[tuple[bytes, bytes, bool]]:
        return [_fingerprint(images.read(name), name) for name in names]

    hashes = []
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(files), unit="image", desc="leaks", disable=None) as bar:
        for part in pool.map(fingerprints, tasks):
            hashes += part
            bar.update(len(part))
    bits = np.frombuffer(b"".join(bits for _, bits, _ in hashes), dtype="<u8").reshape(len(hashes), BITS // 64)
    return Fingerprints(
        [digest for digest, _, _ in hashes], bits, np.array([plain for *_, plain in hashes], dtype=bool)
    )


def _fingerprint(data: bytes, name: str) -> tuple[bytes, bytes, bool]:
    bits, plain = look(decode(data, name, _DECODED))
    return hashlib.sha256(data).digest(), np.packbits(bits).tobytes(), plain


def _cosines() -> np.ndarray:
    """The first rows of the orthonormal DCT-II matrix, int64 (16, 32), times `_SCALE`."""
    frequency, position = np.arange(_FREQUENCIES)[:, None], np.arange(_SIDE)
    rows = np.sqrt(2 / _SIDE) * np.cos(np.pi * frequency * (2 * position + 1) / (2 * _SIDE))
    rows[0] = np.sqrt(1 / _SIDE)
    scaled: np.ndarray = np.rint(rows * _SCALE).astype(np.int64)
    return scaled


_DCT = _cosines()


def look(image: Image.Image) -> tuple[np.ndarray, bool]:
    """The hash of an image, bool (256,), and whether the image is too plain for it.

    The first bit stands for the mean and is always false. In a plain image half of the frequencies differ from their
    median by less than one grey level: their bits are noise of the compression.
    """
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    grey = np.asarray(small).astype(np.int64)
    frequencies = (_DCT @ grey @ _DCT.T).ravel()[1:]
    above = frequencies - np.sort(frequencies)[len(frequencies) // 2]
    plain = np.sort(np.abs(above))[len(above) // 2] < _PLAIN * _SCALE**2
    return np.concatenate([[False], above > 0]), bool(plain)


def nearest(queries: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each query, uint64 (Q, 4), the hash of `index`, uint64 (N, 4), that differs in the fewest bits.

    Returns rows of `index`, int64 (Q,), -1 where none is within `RADIUS`, and the bits that differ, int64 (Q,). Of
    several, the first row. Multi-index hashing (Norouzi, Punjani and Fleet 2012): of two hashes that differ in at most
    31 bits, one of the 16 parts differs in at most one. So a query is compared with those hashes only that share a part
    but for one bit: about N / 240 of them, whatever their number. Memory is that of the input and a constant.
    """
    index, first = np.unique(index, axis=0, return_index=True)  # many copies of one image are one hash
    queries, back = np.unique(queries, axis=0, return_inverse=True)
    best = np.full(len(queries), np.iinfo(np.int64).max)
    parts, query_parts = (np.ascontiguousarray(hashes).view("<u2").reshape(-1, _BANDS) for hashes in (index, queries))
    for band in range(_BANDS):
        order = np.argsort(parts[:, band], kind="stable")
        start = np.searchsorted(parts[order, band], np.arange((1 << _WIDTH) + 1))
        for flipped in (0, *(1 << bit for bit in range(_WIDTH))):
            key = query_parts[:, band].astype(np.int64) ^ flipped  # the key after the last is no 16-bit number
            for rows, places in _pairs(start[key], start[key + 1]):
                candidates = order[places]
                distance = np.bitwise_count(queries[rows] ^ index[candidates]).sum(1, dtype=np.int64)
                near = distance <= RADIUS
                np.minimum.at(best, rows[near], (distance[near] << 32) + first[candidates[near]])
    has_match = best < np.iinfo(np.int64).max
    row, distance = np.where(has_match, best & 0xFFFFFFFF, -1), np.where(has_match, best >> 32, 0)
    return row[back], distance[back]


def _pairs(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Query i with each place from start[i] to stop[i], as two arrays, some `_CANDIDATES` pairs at a time."""
    ends = np.cumsum(stop - start)
    for done in range(0, int(ends[-1]) if len(ends) else 0, _CANDIDATES):
        pair = np.arange(done, min(done + _CANDIDATES, int(ends[-1])))
        row = np.searchsorted(ends, pair, side="right")
        yield row, stop[row] - (ends[row] - pair)

"""What a detector is trained on: images as pixels, on the disk, and their true boxes.

N images, S side in pixels, m objects of an image.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioning.data.objects.labels import Found
from captioning.vision.detection.targets import Boxes


class Labelled(NamedTuple):
    """Images and their objects. pixels: uint8 (N, 3, S, S), from a memory map."""

    pixels: np.ndarray
    boxes: Sequence[Boxes]

    def batch(self, rows: np.ndarray, mirrored: np.ndarray) -> tuple[Tensor, list[Boxes]]:
        """Pixels (B, 3, S, S) and objects of rows (B,), left and right exchanged where mirrored (B,) is true."""
        pixels = np.asarray(self.pixels[rows])
        pixels[mirrored] = pixels[mirrored][..., ::-1]
        pairs = zip(rows.tolist(), mirrored.tolist(), strict=True)
        return torch.from_numpy(pixels), [
            _mirrored(self.boxes[row]) if turn else self.boxes[row] for row, turn in pairs
        ]


def _mirrored(one: Boxes) -> Boxes:
    left, top, right, bottom = one.boxes.T
    return one._replace(boxes=np.stack([1 - right, top, 1 - left, bottom], axis=1))


def boxes(found: Sequence[Found], size: tuple[int, int], classes: Sequence[str]) -> Boxes:
    """Objects in pixels of an image of `size` (width, height) → numbers of classes (m,), and shares (m, 4)."""
    kinds = np.array([classes.index(one.name) for one in found], dtype=np.int64)
    corners = np.array([one.box for one in found], dtype=np.float32).reshape(-1, 4)
    return Boxes(kinds, np.clip(corners / np.array([*size, *size], dtype=np.float32), 0, 1))


def stored(images: Iterable[np.ndarray], shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """Images, uint8 (3, S, S) each, as one array of `shape` (N, 3, S, S) in a file that vanishes with the process.

    Memory stays as it is, whatever N: the operating system reads what a batch needs.
    """
    with TemporaryFile(dir=folder) as file:
        for image in images:
            file.write(image.tobytes())
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=shape)

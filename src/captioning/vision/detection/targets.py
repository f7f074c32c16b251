"""What a centre-point network shall say of images whose boxes are known, and how far it is from that.

B images, M objects in all of them, C classes, G cells across and down.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from captioning.vision.detection.network import Maps

_OVERLAP = 0.7  # a box whose corners are a Gaussian's radius away overlaps the true one so much (Law and Deng 2018)
# weight of the sizes' loss, in cells, beside the heat maps': .1 in the paper, where boxes have five times as many cells
_SIZES = 0.5
_FOCUS, _NEAR = 2, 4  # α and β of the paper: easy cells count less, and so do those near a centre


class Boxes(NamedTuple):
    """The objects of an image: classes (m,) as numbers, and boxes (m, 4) as shares of width and height."""

    classes: np.ndarray
    boxes: np.ndarray


class Targets(NamedTuple):
    """Heat maps of all classes, and at the cell of each object's centre its size and offset, in cells."""

    heat: Tensor  # (B, C, G, G), 1 at centres, Gaussians around them
    cells: Tensor  # (M, 3): image, row and column of each centre
    sizes: Tensor  # (M, 2)
    offsets: Tensor  # (M, 2)

    def to(self, device: torch.device) -> "Targets":
        """The same on a device."""
        return Targets(*(part.to(device) for part in self))


def targets(images: Sequence[Boxes], classes: int, side: int) -> Targets:
    """What a network over `side` × `side` cells shall say of images with these objects."""
    heat = np.zeros((len(images), classes, side, side), dtype=np.float32)
    owners = np.repeat(np.arange(len(images)), [len(one.classes) for one in images])  # (M,)
    kinds = np.concatenate([one.classes for one in images]).astype(np.int64)
    boxes = np.concatenate([one.boxes for one in images]).astype(np.float32).reshape(-1, 4) * side
    sizes, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
    columns, rows = np.clip(centres.astype(np.int64), 0, side - 1).T
    for image, kind, size, row, column in zip(owners, kinds, sizes, rows, columns, strict=True):
        np.maximum(heat[image, kind], _gaussian(side, row, column, size), out=heat[image, kind])
    cells = np.stack([owners, rows, columns], axis=1)
    offsets = centres - np.stack([columns, rows], axis=1)
    return Targets(*map(torch.from_numpy, (heat, cells, sizes, offsets.astype(np.float32))))


def _gaussian(side: int, row: int, column: int, size: np.ndarray) -> np.ndarray:
    """(G, G): 1 at a cell, and less around it: a third of the radius of a box of this size is a standard deviation."""
    deviation = (2 * radius(*size.tolist()) + 1) / 6
    away = np.arange(side)
    down, across = (np.exp(-((away - centre) ** 2) / (2 * deviation**2)) for centre in (row, column))
    return np.outer(down, across).astype(np.float32)


def radius(width: float, height: float) -> int:
    """How far, in whole cells, both corners of a box may move by so much and it overlaps the true one by .7 at least.

    The smallest of three cases: both corners move the same way, inwards, or outwards (Law and Deng 2018, with the
    quadratic equations solved as they should be).
    """
    around, area, share = width + height, width * height, _OVERLAP
    cases = ((1, around, area * (1 - share) / (1 + share)), (4, 2 * around, area * (1 - share)))
    inner = [(b - np.sqrt(b**2 - 4 * a * c)) / (2 * a) for a, b, c in cases]
    outer = (-2 * share * around + np.sqrt((2 * share * around) ** 2 + 16 * share * (1 - share) * area)) / (8 * share)
    return int(max(0.0, min(*inner, outer)))


def losses(maps: Maps, wanted: Targets) -> dict[str, Tensor]:
    """The losses of a batch by name, each per object; their sum is to be made small.

    heat: the focal loss of Zhou et al. 2019, equation 1. sizes, offsets: mean absolute differences at the centres
    (equations 2 and 3).
    """
    count = max(len(wanted.cells), 1)
    image, row, column = wanted.cells.unbind(1)
    sizes, offsets = (found[image, :, row, column] for found in (maps.sizes, maps.offsets))  # (M, 2)
    return {
        "heat": _focal(maps.heat, wanted.heat) / count,
        "sizes": _SIZES * (sizes - wanted.sizes).abs().sum() / count,
        "offsets": (offsets - wanted.offsets).abs().sum() / count,
    }


def _focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """The sum over all cells, by logarithms of the logistic function that cannot overflow."""
    share = logits.sigmoid()
    centre = wanted == 1
    found = (1 - share) ** _FOCUS * F.logsigmoid(logits)
    absent = (1 - wanted) ** _NEAR * share**_FOCUS * F.logsigmoid(-logits)
    return -torch.where(centre, found, absent).sum()

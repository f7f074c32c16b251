"""Where the objects of a store's images are: small arrays beside the store, in memory.

N images, B images a batch, R boxes, L tags.
"""

from typing import NamedTuple

import numpy as np
import torch

from captioning.vision.encoders import at_boxes
from captioning.vision.encoders.at_boxes import Places


class StoredPlaces(NamedTuple):
    """By row of the store: mask (N, R) bool, boxes (N, R, 4) float32, tags (N, L) int64, as in `Places`."""

    mask: np.ndarray
    boxes: np.ndarray
    tags: np.ndarray

    def of(self, rows: np.ndarray, mirrored: np.ndarray | None = None) -> Places:
        """Those of rows (B,), in any order; of the mirrored image where mirrored (B,) is true."""
        mask, boxes, tags = (torch.from_numpy(array[rows]) for array in self)
        if mirrored is not None:
            boxes = torch.where(torch.from_numpy(mirrored)[:, None, None], at_boxes.mirrored(boxes), boxes)
        return Places(mask, boxes, tags)

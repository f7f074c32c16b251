"""From maps to objects: the peaks of the heat maps, best first (Zhou et al. 2019, section 4).

B images, C classes, G cells across and down, K peaks.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from captioning.vision.detection.network import Maps

_AROUND = 3  # cells across and down in which a peak is the highest: what other detectors suppress is no peak here


class Peaks(NamedTuple):
    """The K highest peaks of each image, best first."""

    scores: Tensor  # (B, K), 0 to 1
    classes: Tensor  # (B, K)
    boxes: Tensor  # (B, K, 4) as shares of width and height, cut at the edges


def peaks(maps: Maps, count: int) -> Peaks:
    """The `count` highest peaks, or as many as there are cells in all heat maps. Of equal scores, any order."""
    heat = maps.heat.sigmoid()
    highest = F.max_pool2d(heat, _AROUND, stride=1, padding=_AROUND // 2)
    side, flat = heat.shape[-1], torch.where(heat == highest, heat, 0).flatten(1)
    scores, places = flat.topk(min(count, flat.shape[1]))  # (B, K)
    classes, cells = places // side**2, places % side**2
    sizes, offsets = (part.flatten(2).gather(2, cells[:, None].expand(-1, 2, -1)) for part in maps[1:])  # (B, 2, K)
    centres = torch.stack([cells % side, cells // side], dim=1) + offsets
    corners = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1) / side  # (B, 4, K)
    return Peaks(scores, classes, corners.clamp(0, 1).transpose(1, 2))

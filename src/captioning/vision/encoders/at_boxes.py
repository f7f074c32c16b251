"""Regions at boxes, in place of those of the encoder's grid: bottom-up attention (Anderson et al. 2018).

B images, R boxes, D feature width, H, W rows and columns of the grid.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from captioning.vision.encoders.encoded import Encoded

CODE = 6  # numbers of the box code: see `codes`
_SAMPLES = 7  # a vector is the mean of so many points across the box, and down


class Places(NamedTuple):
    """Boxes of images as shares of width and height, which of them there are, and ids of their names, in a row.

    The first box is the whole image. It is always there, but with published vectors, which have none of it, where there
    is another. L tags; those beyond the last one are `<pad>`.
    """

    mask: Tensor  # (B, R), bool
    boxes: Tensor  # (B, R, 4): left, top, right, bottom
    tags: Tensor  # (B, L)

    def rows(self, rows: list[int]) -> "Places":
        """The same of some of the images."""
        return Places(*(part[rows] for part in self))

    def mirrored(self) -> "Places":
        """The same in the mirrored images."""
        return self._replace(boxes=mirrored(self.boxes))


def at_boxes(encoded: Encoded, grid: tuple[int, int], places: Places) -> Encoded:
    """An encoder's output over its grid (B, H W, D) → vectors at the boxes (B, R, D), and the same mean (B, D)."""
    assert encoded.regions is not None
    return Encoded(encoded.mean, pooled(encoded.regions, grid, places.boxes), *places)


def pooled(regions: Tensor, grid: tuple[int, int], boxes: Tensor) -> Tensor:
    """Regions of a grid (B, H W, D), boxes (B, R, 4) → a vector for each box, (B, R, D).

    RoIAlign (He et al. 2017, section 3): the mean of the map at 7 × 7 points, between whose cells it is bilinear.
    """
    from torchvision.ops import roi_align  # half of torch comes with it, and few models have boxes

    height, width = grid
    maps = regions.transpose(1, 2).reshape(len(regions), -1, height, width)  # (B, D, H, W)
    corners = boxes * boxes.new_tensor([width, height, width, height])
    vectors: Tensor = roi_align(maps, list(corners.to(maps)), 1, sampling_ratio=_SAMPLES, aligned=True)
    return vectors.view(*boxes.shape[:2], -1)  # of (B R, D, 1, 1)


def codes(boxes: Tensor) -> Tensor:
    """Boxes (…, 4) as shares → their codes (…, 6), which are Oscar's (Li et al. 2020).

    Left, top, right, bottom, width and height.
    """
    return torch.cat([boxes, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def coded(encoded: Encoded) -> Encoded:
    """With box codes: behind vectors (B, R, D) that of their box, behind the mean (B, D) that of the whole image.

    Without boxes nothing changes.
    """
    mean, regions, _, boxes, _ = encoded
    if boxes is None or regions is None:
        return encoded
    whole = codes(mean.new_tensor([0, 0, 1, 1])).expand(len(mean), CODE)
    return encoded._replace(mean=torch.cat([mean, whole], 1), regions=torch.cat([regions, codes(boxes.to(regions))], 2))


def mirrored(boxes: Tensor) -> Tensor:
    """Boxes (…, 4) in the mirrored images."""
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([1 - right, top, 1 - left, bottom], dim=-1)

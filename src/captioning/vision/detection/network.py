"""A centre-point network: objects as points (Zhou et al. 2019), small enough to be trained from nothing on a CPU.

A heat map of each class has a peak at the centre of each object, and beside it stand the size of the object's box and
how far its centre is from the middle of the cell.

B images, C classes, S side in pixels, a multiple of 16, G cells across and down, H of a map, W channels.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4  # pixels of a cell, across and down
_WIDTHS = (24, 32, 64, 128)  # channels at strides 2, 4, 8 and 16: a 3 × 3 convolution costs the same at the last three
_HEAD = 48
_TYPICAL = 6.0  # cells, of a side of a box: the head says how many times as large it is, and 1 at first
_RARE = -2.19  # bias of the heat map: .1 at first everywhere, as in the paper, since nearly no cell is a centre


class Maps(NamedTuple):
    """What the network says of each cell: logits of classes, and in cells the box's size and its centre's offset."""

    heat: Tensor  # (B, C, G, G)
    sizes: Tensor  # (B, 2, G, G): width and height
    offsets: Tensor  # (B, 2, G, G): x and y of the centre within the cell, 0 to 1


class CentrePoints(nn.Module):
    """uint8 pixels (B, 3, S, S) → `Maps` with G = S / 4."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        stem, fine, middle, coarse = _WIDTHS
        self.stem = _conv(3, stem, stride=2)
        self.fine = nn.Sequential(_conv(stem, fine, stride=2), _Residual(fine))
        self.middle = nn.Sequential(_conv(fine, middle, stride=2), _Residual(middle))
        self.coarse = nn.Sequential(_conv(middle, coarse, stride=2), _Residual(coarse), _Residual(coarse))
        self.from_coarse, self.join_middle = nn.Conv2d(coarse, middle, 1), _conv(middle, middle)
        self.from_middle, self.from_fine = nn.Conv2d(middle, _HEAD, 1), nn.Conv2d(fine, _HEAD, 1)
        self.join_fine, self.head = _conv(_HEAD, _HEAD), _conv(_HEAD, _HEAD)
        self.heat, self.sizes, self.offsets = (nn.Conv2d(_HEAD, width, 1) for width in (classes, 2, 2))
        nn.init.constant_(_bias(self.heat), _RARE)
        nn.init.constant_(_bias(self.sizes), 1.0)

    def forward(self, pixels: Tensor) -> Maps:
        """See the class."""
        fine = self.fine(self.stem(pixels.float() / 127.5 - 1))
        middle = self.middle(fine)
        middle = self.join_middle(middle + _twice(self.from_coarse(self.coarse(middle))))
        joined = self.head(self.join_fine(self.from_fine(fine) + _twice(self.from_middle(middle))))
        return Maps(self.heat(joined), _TYPICAL * self.sizes(joined), self.offsets(joined))


class _Residual(nn.Module):
    """Two convolutions beside an identity (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width, relu=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, W, H, H) → the same shape."""
        return F.relu(maps + self.second(self.first(maps)))


def _conv(into: int, out: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    parts = [nn.Conv2d(into, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*parts, *([nn.ReLU(inplace=True)] if relu else []))


def _twice(maps: Tensor) -> Tensor:
    """(B, W, H, H) → (B, W, 2 H, 2 H), each cell four times."""
    return F.interpolate(maps, scale_factor=2.0, mode="nearest")


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias

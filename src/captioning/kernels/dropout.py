"""Dropout whose random numbers are drawn four at a time: on a CPU drawing them is what dropout costs."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning import kernels

_BITS = 16  # of the number that decides on an element; int64 is drawn, and holds four


class Dropout(nn.Module):
    """Each element is zero with probability `p`, to 2⁻¹⁶, and the others are scaled (Srivastava et al. 2014).

    In eval mode nothing is done. `nn.Dropout` draws one number an element: a fifth of a transformer's training step on
    a CPU. On a GPU it is what is used, and it is the plain way.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.dropped = p, round(p * (1 << _BITS))  # of so many numbers

    def forward(self, x: Tensor) -> Tensor:
        """(…) → (…)."""
        if not self.training or not self.dropped:
            return x
        if x.device.type != "cpu" or kernels.plain():
            return functional.dropout(x, self.p)
        quads = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(1 << 63), None)
        numbers = quads.view(torch.int16)[: x.numel()].view(x.shape)
        mask = numbers >= self.dropped - (1 << _BITS - 1)
        return x * mask * ((1 << _BITS) / ((1 << _BITS) - self.dropped))

"""The parts of a step that several processes take, put together again: statistics, gradients and logged means.

K losses, W processes.
"""

from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from captioning.training.encoder.sync_batchnorm import span_processes
from captioning.training.phase import Losses


class WholeBatch(NamedTuple):
    """What this process differentiates; and means of the whole batch, which all processes have."""

    differentiated: Tensor
    losses: dict[str, Tensor]
    logged: dict[str, Tensor]


class ProcessParts:
    """Weighs the part of this process, 0 for a stand-in or 1, so that a step is that of the whole batch.

    With several processes, every BatchNorm of `network` gets the statistics of the whole batch from now on.
    """

    def __init__(self, network: nn.Module, fabric: Fabric) -> None:
        self._fabric, self._weight = fabric, 1.0
        self._norms = span_processes(network) if fabric.world_size > 1 else []

    def begin(self, weight: float) -> None:
        """A step begins, in which the part of this process has this weight."""
        self._weight = weight
        for norm in self._norms:
            norm.part_weight = weight

    def whole(self, part: Losses) -> WholeBatch:
        """The losses of this process's part → those of the batch.

        A loss is a mean over words or captions. Each process counts by how many it has: its means are scaled by
        W * its words / all words, since the gradients of the W processes are then averaged.
        """
        means = [*part.minimised.values(), *part.logged.values()]
        values, count = torch.stack([mean.value for mean in means]), len(part.minimised)  # (K,)
        total, whole = values[:count].sum(), values.detach()
        if self._fabric.world_size > 1:
            sizes = self._weight * torch.stack([mean.size for mean in means]).to(values.dtype)  # (K,)
            summed = self._fabric.all_reduce(torch.stack([whole * sizes, sizes]), reduce_op="sum")
            assert isinstance(summed, Tensor)
            total = (values * self._fabric.world_size * sizes / summed[1])[:count].sum()
            whole = summed[0] / summed[1]
        losses = dict(zip(part.minimised, whole[:count], strict=True))
        return WholeBatch(total, losses, dict(zip(part.logged, whole[count:], strict=True)))

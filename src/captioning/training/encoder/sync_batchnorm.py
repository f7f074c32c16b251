"""BatchNorm whose statistics are those of the whole batch, when its parts are in several processes.

torch's SyncBatchNorm supports only GPUs; this one runs wherever collectives do.

B images, D channels.
"""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm (Ioffe and Szegedy 2015) over the batches (B, D, …) of all processes.

    `part_weight` is 0 while this process has a stand-in, whose images must not count, and else 1.
    """

    part_weight = 1.0

    def forward(self, input: Tensor) -> Tensor:
        """(B, D, …) → (B, D, …). In eval mode the stored statistics are used, as in torch."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        axes = [0, *range(2, input.ndim)]
        count, mean, variance = self._moments(values, axes)
        self._remember(count.detach(), mean.detach(), variance.detach())
        shape = (1, -1, *[1] * (input.ndim - 2))
        scale = (variance + self.eps).rsqrt() * self.weight  # (D,)
        normal = (values - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        return normal.to(input.dtype)

    def _moments(self, values: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """How many values a channel has in all processes; their mean (D,) and biased variance (D,).

        Squares are added in double precision: in float32 a small variance beside a large mean would be lost.
        """
        mean = values.mean(axes)
        spread = values.var(axes, unbiased=False).double()
        count = values.new_full((1,), self.part_weight * values.numel() / values.shape[1], dtype=torch.float64)
        square = spread + mean.double().square()
        total: Tensor = _Sum.apply(torch.cat([count, count * mean, count * square]))
        count, (mean, square) = total[:1], (total[1:] / total[:1]).chunk(2)
        return count, mean.float(), (square - mean.square()).clamp(min=0).float()

    def _remember(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        unbiased = variance * (count / (count - 1).clamp(min=1)).float()
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes: torch's subclasses differ in this check alone."""


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def span_processes(network: nn.Module) -> list[GlobalBatchNorm]:
    """Turn every BatchNorm of `network` into a GlobalBatchNorm, in place: names, parameters and buffers stay."""
    norms = []
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = GlobalBatchNorm
            norms.append(module)
    return norms  # type: ignore[return-value]

"""Convolutions over maps of few places: on a CPU, the gradient of the weight as one matrix product.

At 2 x 2 places and 512 channels oneDNN's own kernel takes seven times as long for it (`benchmarks/convolutions.py`).
A ResNet that is trained on small images ends in such maps.

B images, C channels of the input, D of the output, H x W places of the input, P x Q of the output, K x L of the kernel.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from captioning import kernels
from captioning.kernels import depthwise

_PLACES = 16  # P * Q up to which the product wins


class Conv2d(nn.Conv2d):
    """As in torch, with the same parameters under the same names; another way to the gradient where maps are small."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, H, W) → (B, D, P, Q)."""
        learns = torch.is_grad_enabled() and weight.requires_grad and not kernels.plain()
        small = input.device.type == "cpu" and math.prod(map(self._places, range(2), input.shape[2:])) <= _PLACES
        way = _SmallMap.apply if learns and small else F.conv2d
        output: Tensor = way(input, weight, bias, self.stride, self.padding)
        return output

    def _places(self, axis: int, side: int) -> int:
        return (side + 2 * int(self.padding[axis]) - self.kernel_size[axis]) // self.stride[axis] + 1


def quicken(network: nn.Module) -> nn.Module:
    """Replace, in place, the convolutions that learn and that `Conv2d` or `depthwise` can stand for.

    These are undilated, padded with zeros, and ungrouped or depthwise. Of timm's `Conv2dSame`, only depthwise ones are.
    The plain way is torch's own.
    """
    for parent in [] if kernels.plain() else list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.weight.requires_grad:
                quick = _like(child) if type(child) is nn.Conv2d and _plain(child) else depthwise.like(child)
                setattr(parent, name, quick or child)
    return network


def _plain(conv: nn.Conv2d) -> bool:
    return depthwise.is_ordinary(conv) and conv.groups == 1 and conv.kernel_size != (1, 1)


def _like(conv: nn.Conv2d) -> Conv2d:
    """The same convolution, over the same parameters."""
    with torch.device("meta"):
        made = Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
    return depthwise.over_parameters_of(conv, made)


class _SmallMap(torch.autograd.Function):
    """A convolution whose backward pass lays out the patch of each position, and multiplies."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(input, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        to_input, to_weight, to_bias, *_ = ctx.needs_input_grad
        flat = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))  # (B * P * Q, D)
        shape, strides = input.shape, (ctx.stride, ctx.padding)
        return (
            conv2d_input(shape, weight, gradient, *strides) if to_input else None,  # type: ignore[no-untyped-call]
            _as_weight(flat.t() @ _seen(input, weight.shape[2:], *strides), weight) if to_weight else None,
            flat.sum(0) if to_bias else None,
            None,
            None,
        )


def _seen(input: Tensor, kernel: torch.Size, stride: list[int], padding: list[int]) -> Tensor:
    """(B, C, H, W) → the patch that the kernel covers at each position, (B * P * Q, K * L * C)."""
    (down, across), (high, wide) = padding, kernel
    padded = F.pad(input, (across, across, down, down)).permute(0, 2, 3, 1)  # (B, H + .., W + .., C)
    windows = padded.unfold(1, high, stride[0]).unfold(2, wide, stride[1])  # (B, P, Q, C, K, L)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, high * wide * input.shape[1])


def _as_weight(product: Tensor, weight: Tensor) -> Tensor:
    """(D, K * L * C) → (D, C, K, L): a view, and in memory as a weight in channels_last is."""
    return product.view(len(weight), *weight.shape[2:], weight.shape[1]).permute(0, 3, 1, 2)

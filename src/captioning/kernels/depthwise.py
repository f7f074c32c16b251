"""Depthwise convolutions in half precision: on a CPU, two gradients in other ways than oneDNN's.

In bfloat16 it has no fast kernel for the gradient of the input with a stride, nor, in any precision, for that of a
weight larger than 3 x 3. With them a backward pass takes 4 to 16 times as long (`benchmarks/depthwise.py`). So the
former is computed in float32, and the latter in parts of 3 x 3. In float32 all is oneDNN's.

B images, C channels, H x W places of the input, P x Q of the output, K x L of the kernel.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from captioning import kernels

_SIDE = 3  # of the largest kernel whose gradient oneDNN computes fast


class Depthwise(nn.Conv2d):
    """As in torch, with the same parameter under the same name. It has no bias."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, H, W) → (B, C, P, Q)."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        learns = torch.is_grad_enabled() and weight.requires_grad and not kernels.plain()
        slow = max(self.stride) > 1 or max(self.kernel_size) > _SIDE
        if learns and slow and input.device.type == "cpu" and dtype in (torch.bfloat16, torch.float16):
            output: Tensor = _Gradients.apply(input.to(dtype), weight.to(dtype), self.stride, self.padding)
            return output
        return F.conv2d(input, weight, bias, self.stride, self.padding, groups=self.groups)


class DepthwiseSame(Depthwise):
    """timm's `Conv2dSame`: padded as TensorFlow does, so that the output has H / stride places, rounded up."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, H, W) → (B, C, P, Q)."""
        across, down = self._margin(3, input), self._margin(2, input)
        margins = [across // 2, across - across // 2, down // 2, down - down // 2]
        return super()._conv_forward(F.pad(input, margins), weight, bias)

    def _margin(self, axis: int, input: Tensor) -> int:
        stride, side = self.stride[axis - 2], input.shape[axis]
        return max((math.ceil(side / stride) - 1) * stride + self.kernel_size[axis - 2] - side, 0)


_KINDS = {"Conv2d": Depthwise, "Conv2dSame": DepthwiseSame}  # by the name of the class: timm may be absent


def like(conv: nn.Conv2d) -> Depthwise | None:
    """The same convolution, over the same parameter; None where there is none here."""
    kind = _KINDS.get(type(conv).__name__)
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1 and conv.bias is None
    if kind is None or not (zeros and depthwise and conv.dilation == (1, 1)):
        return None
    channels, padding = conv.in_channels, 0 if kind is DepthwiseSame else conv.padding
    with torch.device("meta"):
        made = kind(channels, channels, conv.kernel_size, conv.stride, padding, groups=channels, bias=False)  # type: ignore[arg-type]
    made.weight = conv.weight
    return made.train(conv.training)


class _Gradients(torch.autograd.Function):
    """A depthwise convolution with the backward pass of this module."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(input, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        to_input, to_weight, *_ = ctx.needs_input_grad
        return (
            _of_input(input.shape, weight, gradient, ctx.stride, ctx.padding) if to_input else None,
            _of_weight(input, weight.shape, gradient, ctx.stride, ctx.padding) if to_weight else None,
            None,
            None,
        )


def _of_input(
    shape: torch.Size, weight: Tensor, gradient: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Gradient (B, C, P, Q) → that of the input, (B, C, H, W)."""
    way = (stride, padding, 1, len(weight))
    if max(stride) == 1:
        plain: Tensor = conv2d_input(shape, weight, gradient, *way)  # type: ignore[no-untyped-call]
        return plain
    found: Tensor = conv2d_input(shape, weight.float(), gradient.float(), *way)  # type: ignore[no-untyped-call]
    return found.to(gradient.dtype)


def _of_weight(
    input: Tensor, shape: torch.Size, gradient: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Gradient (B, C, P, Q) → that of the weight (C, 1, K, L), which is put together of parts if it is large."""
    channels, _, high, wide = shape
    if max(high, wide) <= _SIDE:
        whole: Tensor = conv2d_weight(input, shape, gradient, stride, padding, 1, channels)  # type: ignore[no-untyped-call]
        return whole
    padded = F.pad(input, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = ((places - 1) * step for places, step in zip(gradient.shape[2:], stride, strict=True))
    found = gradient.new_empty(shape)
    for (top, height), (left, width) in itertools.product(_parts(high), _parts(wide)):
        seen = padded[:, :, top : top + rows + height, left : left + columns + width]
        part = conv2d_weight(seen, (channels, 1, height, width), gradient, stride, 0, 1, channels)  # type: ignore[no-untyped-call]
        found[:, :, top : top + height, left : left + width] = part
    return found


def _parts(side: int) -> list[tuple[int, int]]:
    """Where the parts of a kernel's side begin, and how long they are: 5 → (0, 3), (2, 3)."""
    length = min(side, _SIDE)
    return [(min(begin, side - length), length) for begin in range(0, side, _SIDE)]

"""Depthwise convolutions that learn in bfloat16: on a CPU, two gradients in other ways than oneDNN's.

It has no fast kernel for the gradient of the input where there is a stride, nor for that of a weight larger than 3 x 3.
Forward and backward, such a layer takes 4 to 16 times as long with it (`benchmarks/depthwise.py`). So the former
gradient is computed in float32, and the latter in parts of 3 x 3. All else is oneDNN's.

B images, C channels, H x W places of the input, P x Q of the output, K x L of the kernel.
"""

import itertools
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from captioning import kernels

_Conv = TypeVar("_Conv", bound=nn.Conv2d)
_SIDE = 3  # of the largest kernel whose gradient oneDNN computes fast


class Depthwise(nn.Conv2d):
    """As in torch, with the same parameters under the same names."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, C, H, W) → (B, C, P, Q)."""
        learns = torch.is_grad_enabled() and weight.requires_grad and not kernels.plain()
        slow = max(self.stride) > 1 or max(self.kernel_size) > _SIDE
        if not (learns and slow and _in_bfloat16(input, weight)):
            return F.conv2d(input, weight, bias, self.stride, self.padding, groups=self.groups)
        output: Tensor = _Gradients.apply(input.bfloat16(), weight.bfloat16(), self.stride, self.padding)
        return output if bias is None else output + bias.bfloat16().view(1, -1, 1, 1)


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


def like(conv: nn.Conv2d) -> Depthwise | None:
    """The same convolution, over the same parameters; None where there is none here."""
    same = type(conv).__name__ == "Conv2dSame"  # by name: timm is not loaded for this
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    if not (same or type(conv) is nn.Conv2d) or not (depthwise and is_ordinary(conv)):
        return None
    channels, kind, padding = conv.in_channels, DepthwiseSame if same else Depthwise, 0 if same else conv.padding
    with torch.device("meta"):
        made = kind(channels, channels, conv.kernel_size, conv.stride, padding, groups=channels)  # type: ignore[arg-type]
    return over_parameters_of(conv, made)


def is_ordinary(conv: nn.Conv2d) -> bool:
    """Is it undilated, and padded by numbers of zeros? `Conv2dSame` pads by itself."""
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and conv.dilation == (1, 1)


def over_parameters_of(conv: nn.Conv2d, made: _Conv) -> _Conv:
    """`made`, with the parameters and the mode of `conv`."""
    made.weight, made.bias = conv.weight, conv.bias
    return made.train(conv.training)


def _in_bfloat16(input: Tensor, weight: Tensor) -> bool:
    """Does torch compute in it, on a CPU?"""
    if input.device.type != "cpu":
        return False
    given = {input.dtype, weight.dtype}
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    return given == {torch.bfloat16} or (cast and given <= {torch.bfloat16, torch.float32})


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
            _of_weight(input, weight, gradient, ctx.stride, ctx.padding) if to_weight else None,
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
    input: Tensor, weight: Tensor, gradient: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Gradient (B, C, P, Q) → that of the weight (C, 1, K, L), which is put together of parts if it is large."""
    channels, _, high, wide = weight.shape
    if max(high, wide) <= _SIDE:
        whole: Tensor = conv2d_weight(input, weight.shape, gradient, stride, padding, 1, channels)  # type: ignore[no-untyped-call]
        return whole
    padded = F.pad(input, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = ((places - 1) * step for places, step in zip(gradient.shape[2:], stride, strict=True))
    found = torch.empty_like(weight)  # in memory as the weight is
    for (top, height), (left, width) in itertools.product(_parts(high), _parts(wide)):
        seen = padded[:, :, top : top + rows + height, left : left + columns + width]
        part = conv2d_weight(seen, (channels, 1, height, width), gradient, stride, 0, 1, channels)  # type: ignore[no-untyped-call]
        found[:, :, top : top + height, left : left + width] = part
    return found


def _parts(side: int) -> list[tuple[int, int]]:
    """Where the parts of a kernel's side begin, and how long they are: 5 → (0, 3), (2, 3)."""
    length = min(side, _SIDE)
    return [(min(begin, side - length), length) for begin in range(0, side, _SIDE)]

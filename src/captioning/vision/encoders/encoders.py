"""Encoders: backbones, cut ahead of their pooling: pixels → regions.

B images, S side in pixels, R regions in H rows and W columns, D feature width.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from captioning.system.errors import UserError
from captioning.vision.encoders import families
from captioning.vision.encoders.backbones import check_size
from captioning.vision.images import Transform

_MOMENTUM = 0.1  # of BatchNorm's stored statistics, from scratch: torch's default


class Encoder(nn.Module):
    """uint8 pixels (B, 3, S, S) → regions (B, R, D), float32; their mean over R is what the backbone pools.

    `dim` is D and `regions` is R, determined by running the network; `grid` is their rows and columns over the square,
    row by row, or None where they form no grid. The state of `body` has the names of the backbone's own library.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, body: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.name, self.transform = name, transform
        self.body = _channels_last(body)
        device = next(body.parameters()).device
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        shape = (1, 3, transform.image_size, transform.image_size)
        with torch.inference_mode():
            output = self.eval()._run(torch.zeros(shape, dtype=torch.uint8, device=device))
        self.regions, self.dim = as_regions(output).shape[1:]
        self.grid = _grid(output)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → (B, R, D)."""
        return as_regions(self._run(pixels))

    def _run(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → (B, D, H, W), or (B, R, D)."""
        output: Tensor = self.body(self.normalised(pixels))
        return output

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → what the body reads of them, float32."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return torch.addcmul(self.shift, pixels.float(), self.scale)


def _channels_last(body: nn.Module) -> nn.Module:
    """The same network, whose kernels lie in memory as its maps do; `Module.to` refuses tensors of five dimensions."""
    for tensor in (*body.parameters(), *body.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return body


def as_regions(output: Tensor) -> Tensor:
    """(B, D, H, W) or (B, R, D) → (B, R, D), float32."""
    return (output.flatten(2).transpose(1, 2) if output.ndim == 4 else output).float()


def _grid(output: Tensor) -> tuple[int, int] | None:
    """Rows and columns of the regions: of a square image, patches are as many across as down."""
    if output.ndim == 4:
        return output.shape[2], output.shape[3]
    side = math.isqrt(output.shape[1])
    return (side, side) if side**2 == output.shape[1] else None


def build(name: str, *, transform: Transform, weights: Mapping[str, Tensor], seed: int = 0) -> Encoder:
    """Backbone `name` without its head, in eval mode.

    weights: its state under its library's names, where entries of the head are not read. Empty: drawn from
    `seed`, as its library initialises it; the global random state is neither read nor changed.
    Raises UserError when the name is unknown, the backbone does not take transform.image_size, or the
    weights do not fit.
    """
    family, size = families.of(name), transform.image_size
    check_size(name, size, pretrained=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        body, known = family.build(name, size, drawn=not weights)
    if weights:
        body.load_state_dict(_fitting(name, family.without_head(weights), body.state_dict(), known))
    else:
        _follow_quickly(body)
    return Encoder(name, body, transform)


def _follow_quickly(body: nn.Module) -> None:
    """Let BatchNorm's stored statistics follow a short training: some backbones have a momentum for long ones."""
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = _MOMENTUM


def _fitting(
    name: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], known: set[str]
) -> dict[str, Tensor]:
    """The body's entries of `weights`, under today's names. Raises UserError when something does not fit."""
    state = {key: torch.tensor(0) for key in wanted if key.endswith("num_batches_tracked")}  # old files lack them
    state |= weights
    faults = [f"{key} is missing" for key in wanted.keys() - state.keys()]
    faults += [f"{key} is unknown" for key in state.keys() - known]
    for key in wanted.keys() & state.keys():
        if state[key].shape != wanted[key].shape:
            faults.append(f"{key} has shape {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"the weights are not those of {name}: {'; '.join(sorted(faults)[:3])}{more}")
    return {key: state[key] for key in wanted}


def freeze(encoder: Encoder) -> Encoder:
    """Make it a fixed function, in eval mode and without gradients: what is stored, and what describes images, is so.

    Training has `training.encoder.fine_tuning` instead.
    """
    return encoder.requires_grad_(False).eval()


def folded(encoder: Encoder) -> Encoder:
    """A frozen encoder whose convolutions contain the BatchNorm behind them: the same function, faster.

    Its other modules are those of `encoder`, which is frozen already.
    """
    return freeze(Encoder(encoder.name, fold_batchnorm(encoder.body), encoder.transform))


class _Folder(fx.Tracer):
    """Keeps modules whole, which the body's own tracer did too, but for sequences: torchvision's hold a BatchNorm."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return super().is_leaf_module(module, path) or not isinstance(module, nn.Sequential)


def fold_batchnorm(network: nn.Module) -> fx.GraphModule:
    """A network in eval mode, with what BatchNorm does to a convolution's results done by its weights."""
    traced = fx.GraphModule(network, _Folder().trace(network))
    parts: dict[str, Any] = (
        dict(traced.named_modules()) | dict(traced.named_parameters()) | dict(traced.named_buffers())
    )
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(parts[node.target], nn.BatchNorm2d):
            before = node.args[0]
            if before.op == "call_module" and _is_plain(parts[before.target]) and len(before.users) == 1:
                norm = parts[node.target]
                parts[before.target] = _fused(parts[before.target], norm)
                node.replace_all_uses_with(before)
                traced.graph.erase_node(node)
    return fx.GraphModule(parts, traced.graph)


def _is_plain(module: nn.Module) -> bool:
    """Does the module convolve with its weight as it is? Classes of timm change theirs first, and `Conv2dSame` pads."""
    known = ("Conv2d", "Conv2dSame", "Depthwise", "DepthwiseSame")
    return isinstance(module, nn.Conv2d) and type(module).__name__ in known


def _fused(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Both in one, and behind them what is in the norm: an activation in timm's."""
    fused = fuse_conv_bn_eval(convolution, norm)
    behind = list(norm.children())
    return nn.Sequential(fused, *behind) if behind else fused

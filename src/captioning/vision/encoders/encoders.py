"""Encoders: any torchvision classification backbone, cut ahead of its pooling: pixels → regions.

B images, S side in pixels, R regions in H rows and W columns, D feature width, T tokens.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models, ops

from captioning.system.errors import UserError
from captioning.vision.encoders.backbones import INCEPTIONS, check_name, check_size
from captioning.vision.images import Transform

_HEADS = frozenset({"classifier", "head", "heads", "fc", "avgpool", "aux1", "aux2", "AuxLogits"})
_MOMENTUM = 0.1  # of BatchNorm's stored statistics, from scratch: torch's default
_RENAMED = (  # parameters that older files of torchvision's have under another name
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


class Encoder(nn.Module):
    """uint8 pixels (B, 3, S, S) → regions (B, R, D), float32; their mean over R is what the backbone pools.

    `dim` is D and `regions` is R, found by running the network; `grid` is their rows and columns over the square,
    row by row, or None where they form no grid. The state of `body` has torchvision's names.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, body: nn.Module, transform: Transform) -> None:
        super().__init__()
        self.name, self.transform = name, transform
        self.body = body.to(memory_format=torch.channels_last)
        device = next(body.parameters()).device
        mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        shape = (1, 3, transform.image_size, transform.image_size)
        with torch.inference_mode():
            found = self.eval()._run(torch.zeros(shape, dtype=torch.uint8, device=device))
        self.regions, self.dim = as_regions(found).shape[1:]
        self.grid = _grid(found)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → (B, R, D)."""
        return as_regions(self._run(pixels))

    def _run(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → (B, D, H, W), or (B, 1 + R, D) with the class token first."""
        found: Tensor = self.body(self.normalised(pixels))
        return found

    def normalised(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → what the body reads of them, float32."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return torch.addcmul(self.shift, pixels.float(), self.scale)


def as_regions(found: Tensor) -> Tensor:
    """(B, D, H, W) or (B, 1 + R, D) → (B, R, D), float32: the class token is no region."""
    return (found.flatten(2).transpose(1, 2) if found.ndim == 4 else found[:, 1:]).float()


def _grid(found: Tensor) -> tuple[int, int] | None:
    """Rows and columns of the regions: of a square picture, patches are as many across as down."""
    if found.ndim == 4:
        return found.shape[2], found.shape[3]
    patches = found.shape[1] - 1
    side = math.isqrt(patches)
    return (side, side) if side**2 == patches else None


def build(name: str, *, transform: Transform, weights: Mapping[str, Tensor], seed: int = 0) -> Encoder:
    """Backbone `name` without its head, in eval mode.

    weights: its state under torchvision's names, where entries of the head are not read. Empty: drawn from
    `seed`, as torchvision initialises it; the global random state is neither read nor changed.
    Raises UserError when the name is unknown, the backbone does not take transform.image_size, or the
    weights do not fit.
    """
    check_name(name)
    size = transform.image_size
    check_size(name, size, pretrained=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = models.get_model(name, weights=None, **_options(name, size, drawn=not weights)).eval()
    body = _cut(network, size)
    if not weights:
        _follow_quickly(body)
    if weights:
        body.load_state_dict(_fitting(name, weights, body.state_dict(), network.state_dict()))
    return Encoder(name, body, transform)


def _options(name: str, image_size: int, *, drawn: bool) -> dict[str, Any]:
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    if name in INCEPTIONS or name.startswith("vgg"):
        return {"init_weights": drawn}
    if name.startswith(("resnet", "resnext", "wide_resnet")):
        return {"zero_init_residual": drawn}  # a deep one learns from the first step on (Goyal et al. 2017, 5.1)
    return {}


def _follow_quickly(body: nn.Module) -> None:
    """Let BatchNorm's stored statistics follow a short training: some backbones have a momentum for long ones."""
    for module in body.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = _MOMENTUM


class _Tracer(fx.Tracer):
    """Keeps torchvision's operations whole: some of them act differently in training."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return super().is_leaf_module(module, path) or module.__module__.startswith("torchvision.ops")


def _cut(network: nn.Module, image_size: int) -> nn.Module:
    """The network up to the last result, ahead of its head, that still has more than one place.

    It is found by running the network. Small pictures can end in a grid of one place, so that the run is on
    a picture of 224 pixels, or more.
    """
    graph = _Tracer(autowrap_modules=(math, ops)).trace(network)
    size = image_size if isinstance(network, models.VisionTransformer | models.MaxVit) else max(image_size, 224)
    with torch.inference_mode():
        ShapeProp(fx.GraphModule(network, graph)).propagate(torch.zeros(1, 3, size, size))
    *nodes, output = graph.nodes
    output.args = ([node for node in nodes if _is_map(node)][-1],)
    graph.eliminate_dead_code()
    return fx.GraphModule(network, graph)


def _is_map(node: fx.Node) -> bool:
    """Is the node's result (B, D, H, W) or (B, T, D), with more than one place, and not of the head?"""
    found, inside = node.meta.get("tensor_meta"), node.meta.get("nn_module_stack", {})
    if not isinstance(found, TensorMetadata) or not _HEADS.isdisjoint(inside):
        return False
    return len(found.shape) == 3 or (len(found.shape) == 4 and math.prod(found.shape[2:]) > 1)


def _fitting(
    name: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], known: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """What the body wants of `weights`, under the names of today. Raises UserError when something does not fit."""
    given = {key: torch.tensor(0) for key in wanted if key.endswith("num_batches_tracked")}  # old files lack them
    given |= {_today(key): tensor for key, tensor in weights.items() if key.split(".")[0] not in _HEADS}
    faults = [f"{key} is missing" for key in wanted.keys() - given.keys()]
    faults += [f"{key} is unknown" for key in given.keys() - known.keys()]
    for key in wanted.keys() & given.keys():
        if given[key].shape != wanted[key].shape:
            faults.append(f"{key} has shape {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"the weights are not those of {name}: {'; '.join(sorted(faults)[:3])}{more}")
    return {key: given[key] for key in wanted}


def _today(key: str) -> str:
    for old, new in _RENAMED:
        key = old.sub(new, key)
    return key


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
    """Keeps convolutions whole, also those of other classes than torch's, which may look at what they are given."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return super().is_leaf_module(module, path) or isinstance(module, nn.Conv2d)


def fold_batchnorm(network: nn.Module) -> fx.GraphModule:
    """A network in eval mode, with what BatchNorm does to a convolution's results done by its weights."""
    traced = fx.GraphModule(network, _Folder().trace(network))
    parts: dict[str, Any] = {**dict(traced.named_modules()), **traced.state_dict(keep_vars=True)}
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(parts[node.target], nn.BatchNorm2d):
            before = node.args[0]
            if before.op == "call_module" and isinstance(parts[before.target], nn.Conv2d) and len(before.users) == 1:
                parts[before.target] = fuse_conv_bn_eval(parts[before.target], parts[node.target])
                node.replace_all_uses_with(before)
                traced.graph.erase_node(node)
    return fx.GraphModule(parts, traced.graph)

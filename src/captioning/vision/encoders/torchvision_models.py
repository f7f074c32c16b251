"""torchvision's classification networks.

B images, D feature width, H rows, W columns, T tokens.
"""

import math
import operator
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from captioning.vision import imports
from captioning.vision.encoders.presets import Preset, Sizes

models, ops = imports.torchvision().models, imports.torchvision().ops

PREFIX = ""
_INCEPTIONS = frozenset({"googlenet", "inception_v3"})  # their ImageNet weights turn the input to −1 … 1 themselves
_SHAPE = "shape"  # of a node's result, in its `meta`
_GREY = (0.5, 0.5, 0.5)
_HEADS = frozenset({"classifier", "head", "heads", "fc", "avgpool", "aux1", "aux2", "AuxLogits"})
_RENAMED = (  # parameters that older files have under another name
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


def names() -> list[str]:
    """See `families.Family`."""
    return sorted(models.list_models(module=models))


def preset(name: str) -> Preset:
    """See `families.Family`."""
    weights = models.get_model_weights(name).DEFAULT
    transform = weights.transforms()
    grey = name in _INCEPTIONS
    return Preset(
        image_size=transform.crop_size[0],
        resize=transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=_GREY if grey else tuple(transform.mean),
        std=_GREY if grey else tuple(transform.std),
        url=weights.url,
        file=weights.url.rpartition("/")[2],
    )


def gflops(name: str) -> float:
    """See `families.Family`."""
    return float(models.get_model_weights(name).DEFAULT.meta["_ops"])


def sizes(name: str, *, pretrained: bool) -> Sizes:
    """See `families.Family`."""
    weights = models.get_model_weights(name).DEFAULT
    native, least = weights.transforms().crop_size[0], weights.meta["min_size"][0]
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        return Sizes(patch, patch, native if pretrained else None, fixed=True)
    if name.startswith("maxvit_"):
        return Sizes(native, native, fixed=True)
    if name.startswith("swin_"):
        return Sizes(32)  # windows are padded, whatever the published least size is
    return Sizes(least)


def build(name: str, image_size: int, *, drawn: bool) -> tuple[fx.GraphModule, set[str]]:
    """See `families.Family`."""
    network = models.get_model(name, weights=None, **_options(name, image_size, drawn=drawn)).eval()
    return _cut(network, image_size), set(network.state_dict())


def without_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See `families.Family`."""
    return {_today(key): tensor for key, tensor in weights.items() if key.split(".")[0] not in _HEADS}


def _today(key: str) -> str:
    for old, new in _RENAMED:
        key = old.sub(new, key)
    return key


def _options(name: str, image_size: int, *, drawn: bool) -> dict[str, Any]:
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    if name in _INCEPTIONS or name.startswith("vgg"):
        return {"init_weights": drawn}
    if name.startswith(("resnet", "resnext", "wide_resnet")):
        return {"zero_init_residual": drawn}  # a deep one learns from the first step on (Goyal et al. 2017, 5.1)
    return {}


class _Tracer(fx.Tracer):
    """Keeps torchvision's operations whole: some of them act differently in training."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return super().is_leaf_module(module, path) or module.__module__.startswith("torchvision.ops")


class _Shapes(fx.Interpreter):
    """Notes the shape of each node's result, if it is a tensor; torch's own `ShapeProp` loads a computer algebra."""

    def run_node(self, node: fx.Node) -> Any:
        result = super().run_node(node)
        node.meta[_SHAPE] = tuple(result.shape) if isinstance(result, Tensor) else None
        return result


def _cut(network: nn.Module, image_size: int) -> fx.GraphModule:
    """The network up to the last result, ahead of its head, that still has more than one position.

    It is found by running the network. Small images can end in a grid of one position, so that the run is on an image
    of 224 pixels, or more.
    """
    graph = _Tracer(autowrap_modules=(math, ops)).trace(network)
    size = image_size if isinstance(network, models.VisionTransformer | models.MaxVit) else max(image_size, 224)
    with torch.inference_mode():
        _Shapes(fx.GraphModule(network, graph)).run(torch.zeros(1, 3, size, size))
    *nodes, output = graph.nodes
    output.args = (_patches(graph, [node for node in nodes if _is_map(node)][-1]),)
    graph.eliminate_dead_code()
    return fx.GraphModule(network, graph)


def _patches(graph: fx.Graph, last: fx.Node) -> fx.Node:
    """Of a map all, of tokens (B, 1 + R, D) those behind the class token, which is no region."""
    if len(last.meta[_SHAPE]) == 4:
        return last
    with graph.inserting_after(last):
        return graph.call_function(operator.getitem, (last, (slice(None), slice(1, None))))


def _is_map(node: fx.Node) -> bool:
    """Is the node's result (B, D, H, W) or (B, T, D), with more than one position, and not of the head?"""
    shape, inside = node.meta.get(_SHAPE), node.meta.get("nn_module_stack", {})
    if shape is None or not _HEADS.isdisjoint(inside):
        return False
    return len(shape) == 3 or (len(shape) == 4 and math.prod(shape[2:]) > 1)

"""A network of timm as a graph of its modules, whose result is regions.

fx follows the network's own `forward_features`. What fx cannot follow is one node: modules without parts, normalisation
with an activation in it, and each module in which tracing fails.

B images, D feature width, H rows, W columns, R regions, T tokens.
"""

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captioning.system.errors import reason

_FEATURES = "forward_features"  # timm's name for all that lies ahead of the pooling


class NoRegionsError(Exception):
    """The network has no grid of regions, or fx cannot follow it; the text says why."""


class _Tracer(fx.Tracer):
    """Enters a module unless it has no parts, acts differently in training, or its class is in `whole`."""

    def __init__(self, whole: set[type[nn.Module]], functions: tuple[Any, ...]) -> None:
        super().__init__(autowrap_modules=(math,), autowrap_functions=functions)
        self.traced_func_name = _FEATURES
        self.whole = whole
        self.path: list[nn.Module] = []  # the modules that are being followed

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        parts = next(module.children(), None) is not None
        return not parts or isinstance(module, (_BatchNorm, *self.whole)) or super().is_leaf_module(module, path)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        """Images alone are followed: what else `forward_features` may be given has its default."""

        def of_images(network: nn.Module, images: Tensor) -> Any:
            return root_fn(network, images)

        return super().create_args_for_root(of_images, is_module, concrete_args)

    def call_module(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.path.append(module)
        result = super().call_module(module, forward, args, kwargs)
        self.path.pop()
        return result


def traced(network: nn.Module, whole: set[type[nn.Module]], functions: tuple[Any, ...]) -> fx.Graph:
    """The graph of a network in eval mode.

    whole: classes of modules that are one node. functions: those that are. Raises NoRegionsError where fx cannot follow
    the network itself.
    """
    whole = set(whole)
    while True:
        tracer = _Tracer(whole, functions)
        try:
            return tracer.trace(network)
        except Exception as fault:  # whatever the code of a model raises when it meets a proxy
            failed = next((module for module in reversed(tracer.path) if type(module) not in whole), None)
            if failed is None:
                raise NoRegionsError(f"torch.fx cannot follow it ({reason(fault, first_line=True)})") from fault
            whole.add(type(failed))


def with_regions(network: nn.Module, graph: fx.Graph, images: Tensor) -> fx.GraphModule:
    """The graph's result as maps (B, D, H, W), or as regions (B, R, D): tokens that are no patches are left out.

    Raises NoRegionsError where the result is neither.
    """
    with torch.no_grad():  # some networks keep what they made in their first pass
        found = features(network, images)
    whole = fx.GraphModule(network, graph)
    [output] = graph.find_nodes(op="output")
    with graph.inserting_before(output):
        output.args = (_regions(network, graph, output.args[0], found),)
    graph.eliminate_dead_code()
    return _with_buffers(network, fx.GraphModule(whole, graph))


def features(network: nn.Module, images: Tensor) -> Any:
    """What the network computes of images (B, 3, S, S) ahead of its pooling."""
    return getattr(network, _FEATURES)(images)


def _regions(network: nn.Module, graph: fx.Graph, result: Any, found: Any) -> fx.Node:
    if not isinstance(found, Tensor) or found.ndim not in (3, 4):
        raise NoRegionsError("its features are no map and no sequence of tokens")
    if found.ndim == 4:
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return graph.call_method("permute", (result, 0, 3, 1, 2)) if last else result
    ahead = prefix(network)
    if found.shape[1] <= ahead:
        raise NoRegionsError("its features are class tokens alone")
    everything = slice(None)
    return graph.call_function(operator.getitem, (result, (everything, slice(ahead, None)))) if ahead else result


def prefix(network: nn.Module) -> int:
    """How many tokens stand ahead of those of the patches: class, distillation and register tokens."""
    counted = getattr(network, "num_prefix_tokens", None)
    if counted is None:
        return int(getattr(network, "cls_token", None) is not None)
    return int(counted)


def _with_buffers(network: nn.Module, body: fx.GraphModule) -> fx.GraphModule:
    """Without buffers in its state that the network's state has not: fx copies those as if it had."""
    kept = network.state_dict().keys()
    for name, buffer in list(body.named_buffers()):
        if name not in kept:
            owner, _, last = name.rpartition(".")
            body.get_submodule(owner).register_buffer(last, buffer, persistent=False)
    return body

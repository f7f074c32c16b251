"""A network in two parts: a front that never changes in training, and the rest.

The front runs without gradients, once for all passes of a step, and on few images at a time.
"""

from collections.abc import Callable, Container

import torch
from torch import Tensor, fx

_AT_ONCE = 4  # images whose first maps still fit into a core's cache: 32 of 288 pixels at once take 1.8 times as long


def cut(network: fx.GraphModule, fixed: Container[fx.Node]) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Front and back, with the network's own modules: `back(*front(x))` is `network(x)`.

    fixed: the nodes of the front, which has all that each of them reads.
    """
    nodes = [node for node in network.graph.nodes if node in fixed]
    border = [node for node in nodes if any(user not in fixed for user in node.users)]
    front, back = fx.Graph(), fx.Graph()
    copies = {node: back.placeholder(f"found_{index}") for index, node in enumerate(border)}
    originals: dict[fx.Node, fx.Node] = {}
    for node in network.graph.nodes:
        graph, known = (front, originals) if node in fixed else (back, copies)
        known[node] = graph.node_copy(node, known.__getitem__)
    front.output(tuple(originals[node] for node in border))
    return fx.GraphModule(network, front), fx.GraphModule(network, back)


def few_at_once(run: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor) -> tuple[Tensor, ...]:
    """`run(images)`, a few images at a time; each is a row of its own in all that `run` returns."""
    parts = [run(images[begin : begin + _AT_ONCE]) for begin in range(0, len(images), _AT_ONCE)]
    return tuple(torch.cat(one) for one in zip(*parts, strict=True))

"""Networks as ONNX graphs, by torch's exporter."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

ANY = torch.export.Dim.DYNAMIC


class Traced(NamedTuple):
    """An ONNX file, and the names of its graph's inputs and outputs."""

    data: bytes
    inputs: list[str]
    outputs: list[str]


def traced(
    network: nn.Module,
    example: tuple[Any, ...],
    sizes: tuple[Any, ...] | None,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Traced:
    """The graph of a network in eval mode: an example of its inputs, which of their sizes may be `ANY`, and names.

    sizes: None where all are as in the example.
    """
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            example,
            dynamo=True,
            dynamic_shapes=sizes,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    _tell_apart(proto.graph)
    data: bytes = proto.SerializeToString(deterministic=True)
    return Traced(data, [node.name for node in proto.graph.input], [node.name for node in proto.graph.output])


def _forget_origin(proto: Any) -> None:
    """Leave out what the exporter notes of the source: paths of this machine, and half a megabyte."""
    for part in (proto, proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del part.metadata_props[:]
    del proto.graph.value_info[:]


def _tell_apart(graph: Any) -> None:
    """Rename what is computed on the way under the name of an output, in place: networks of timm have a `mean` too."""
    for name in (output.name for output in graph.output):
        earlier = [node for node in graph.node if name in node.output][:-1]
        for node in graph.node if earlier else ():
            node.input[:] = [f"{name}_inside" if one == name else one for one in node.input]
        for node in earlier:
            node.output[:] = [f"{name}_inside" if one == name else one for one in node.output]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks are for its own authors."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)

"""A frozen encoder as an ONNX graph, which another engine than torch runs.

B images, R regions, D feature width, S side in pixels.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from captioning.data.runtimes import registry
from captioning.data.runtimes.registry import Engine, Graph
from captioning.data.runtimes.tracing import traced
from captioning.system.files import write_bytes
from captioning.vision.encoders.encoders import Encoder

Run = Callable[[Tensor], Tensor]
"""uint8 pixels (B, 3, S, S) → regions (B, R, D), float32. One thread calls it at a time."""


class _Regions(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        regions: Tensor = self.encoder(pixels)
        return regions


def runs(encoder: Encoder, engine: Engine, batch_size: int, count: int, *, bf16: bool) -> list[Run]:
    """The encoder in an engine, `count` times with a thread each, for batches of this size only.

    bf16: in bfloat16, if the engine has it. The graph is of one size, because engines plan for it.
    Raises UserError where the engine cannot read the graph.
    """
    side = encoder.transform.image_size
    example = torch.zeros(batch_size, 3, side, side, dtype=torch.uint8)
    graph = traced(_Regions(encoder), (example,), None, ["pixels"], ["regions"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{encoder.name.replace('/', '-')}.onnx"
        write_bytes(path, graph.data)
        return [_run(registry.load(engine, path, 1, bf16=bf16)) for _ in range(count)]


def _run(graph: Graph) -> Run:
    def run(pixels: Tensor) -> Tensor:
        [regions] = graph([pixels.numpy()])
        return torch.from_numpy(regions)

    return run

"""A frozen encoder as an ONNX graph, which another engine than torch runs.

B images, R regions, D feature width, S side in pixels.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from captioning.data.runtimes import registry
from captioning.data.runtimes.registry import Engine, Graph
from captioning.data.runtimes.tracing import Traced, traced
from captioning.system import compute
from captioning.system.errors import UserError, reason
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


def named(setting: str) -> tuple[Engine, bool]:
    """The engine that `features.engine` names, and whether it runs in 8-bit integers."""
    engine, integers, _ = setting.partition("-int8")
    return Engine(engine), bool(integers)


def check(setting: str, device: str) -> None:
    """Raise UserError where what `features.engine` names cannot run on this machine. device: cpu, or cuda."""
    (engine, integers), asked = named(setting), f"features.engine = {setting}"
    if engine == Engine.torch:
        return
    if device != "cpu":
        raise UserError(f"{asked}: runs on CPUs, and this is a GPU; write torch, or compute.device: cpu")
    registry.check_traced(engine, asked)
    if integers:
        registry.check_installed(Engine.onnxruntime, asked)
        if not compute.multiplies_int8():
            raise UserError(f"{asked}: this CPU has no VNNI, and sums would overflow; write {engine}")


def runs(
    encoder: Encoder, engine: Engine, batch_size: int, count: int, *, bf16: bool, examples: np.ndarray | None = None
) -> list[Run]:
    """The encoder in an engine, for `count` threads at once and batches of this size only.

    bf16: in bfloat16, if the engine has it. The graph is of one size, because engines plan for it.
    examples: pixels uint8 (N, 3, S, S) that the ranges of 8-bit integers are taken from; None: no integers.
    Raises UserError where torch cannot export the encoder, or the engine not read the graph.
    """
    side = encoder.transform.image_size
    example = torch.zeros(batch_size, 3, side, side, dtype=torch.uint8)
    try:
        graph = traced(_Regions(encoder), (example,), None, ["pixels"], ["regions"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            write_bytes(path, graph.data if examples is None else _in_integers(graph, examples, batch_size))
            return [_run(one) for one in registry.side_by_side(engine, path, count, bf16=bf16)]
    except (UserError, torch.onnx.OnnxExporterError) as fault:
        setting, remedy = (engine, Engine.torch) if examples is None else (f"{engine}-int8", engine)
        why = reason(fault, first_line=True)
        raise UserError(f"features.engine = {setting}: it cannot run {encoder.name} ({why}); write {remedy}") from None


def _in_integers(graph: Traced, examples: np.ndarray, batch_size: int) -> bytes:
    """The graph in 8-bit integers. Where the examples are no whole batches, the first ones come once more."""
    from captioning.data.runtimes.quantization import quantized

    batches = -(-len(examples) // batch_size)
    whole = np.resize(examples, (batches * batch_size, *examples.shape[1:]))
    return quantized(graph, np.split(whole, batches))


def _run(graph: Graph) -> Run:
    def run(pixels: Tensor) -> Tensor:
        [regions] = graph([pixels.numpy()])
        return torch.from_numpy(regions)

    return run

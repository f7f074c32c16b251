"""OpenVINO, on the CPU."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import openvino

from captioning.data.runtimes.registry import Graph
from captioning.system.errors import UserError, reason


@cache
def _core() -> openvino.Core:
    """The one of this process, which is never let go.

    Of several that come and go, 2026.4 leaves the thread with the alternate signal stack of one that is gone: then the
    next signal, as Ctrl-C, is a segmentation fault.
    """
    return openvino.Core()


def load(path: Path, threads: int) -> Graph:
    """The graph of an ONNX or OpenVINO file, on so many threads, in float32 also where the CPU has bfloat16.

    Raises UserError when it cannot be read.
    """
    return _requested(_compiled(path, threads, 1, bf16=False))


def side_by_side(path: Path, count: int, *, bf16: bool) -> list[Graph]:
    """The graph of such a file for `count` threads, each on one core. bf16: in bfloat16.

    Raises UserError when it cannot be read.
    """
    compiled = _compiled(path, count, count, bf16=bf16)
    return [_requested(compiled) for _ in range(count)]


def _compiled(path: Path, threads: int, streams: int, *, bf16: bool) -> openvino.CompiledModel:
    core = _core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "ENABLE_CPU_PINNING": False,  # other programs may have work for the same core
        "NUM_STREAMS": streams,
        "SNIPPETS_MODE": "DISABLE",  # of a growing state, 2026.4 computes wrong attention with them on AVX2
    }
    try:
        return core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as fault:
        raise UserError(f"{path}: OpenVINO cannot read it ({reason(fault, first_line=True)})") from None


def _requested(compiled: openvino.CompiledModel) -> Graph:
    """The graph, for one thread at a time."""
    request = compiled.create_infer_request()
    count = len(compiled.outputs)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = request.infer([np.ascontiguousarray(part) for part in inputs])  # it takes no heed of strides
        return [found[index] for index in range(count)]

    return run

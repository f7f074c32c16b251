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


def load(path: Path, threads: int, *, bf16: bool) -> Graph:
    """The graph of an ONNX or OpenVINO file, on so many threads. bf16: in bfloat16; else in float32 on any CPU.

    Raises UserError when it cannot be read.
    """
    core = _core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "ENABLE_CPU_PINNING": False,  # several graphs of one thread would all be bound to the same core
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "SNIPPETS_MODE": "DISABLE",  # of a growing state, 2026.4 computes wrong attention with them on AVX2
    }
    try:
        compiled = core.compile_model(core.read_model(path), "CPU", settings)
    except RuntimeError as fault:
        raise UserError(f"{path}: OpenVINO cannot read it ({reason(fault, first_line=True)})") from None
    request = compiled.create_infer_request()
    count = len(compiled.outputs)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = request.infer([np.ascontiguousarray(part) for part in inputs])  # it takes no heed of strides
        return [found[index] for index in range(count)]

    return run

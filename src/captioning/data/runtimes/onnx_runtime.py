"""ONNX Runtime, on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from captioning.data.runtimes.registry import Graph
from captioning.system.errors import UserError, reason

_FATAL = 4  # what is logged on standard error: nothing below


def load(path: Path, threads: int) -> Graph:
    """The graph of an ONNX file, on so many threads. Several threads may call it.

    Raises UserError when it cannot be read.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _FATAL
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # its exceptions have no class of their own
        raise UserError(f"{path}: ONNX Runtime cannot read it ({reason(fault, first_line=True)})") from None
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
        return found

    return run


def side_by_side(path: Path, count: int, *, bf16: bool) -> list[Graph]:  # noqa: ARG001 (it has none on a CPU)
    """The graph of an ONNX file for `count` threads, each on one core. Raises UserError when it cannot be read."""
    return [load(path, 1)] * count

"""ONNX graphs in 8-bit integers, by ONNX Runtime's tools. ONNX Runtime and OpenVINO run them.

The weights of each channel have a scale of their own. Activations have that of the range which they have over some
examples (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference").
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from captioning.data.runtimes.tracing import Traced
from captioning.system.files import write_bytes

# Products, and the limits behind them. OpenVINO 2026.4 fails on some graphs where sums or joins are in integers too.
_IN_INTEGERS = ["Conv", "MatMul", "Gemm", "Clip", "Relu"]


class _Examples(CalibrationDataReader):  # type: ignore[misc]  # its package has no types
    def __init__(self, name: str, batches: Sequence[np.ndarray]) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = ({name: batch} for batch in batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def quantized(graph: Traced, batches: Sequence[np.ndarray]) -> bytes:
    """The ONNX file of a graph with one input, in integers; batches: of that input, each of the graph's own size."""
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        write_bytes(before, graph.data)
        quantize_static(
            before,
            after,
            _Examples(graph.inputs[0], batches),
            op_types_to_quantize=_IN_INTEGERS,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return after.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """The tools advise their own authors, on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

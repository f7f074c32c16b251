"""Writing .npy files row by row."""

import hashlib
import io
from typing import Any, BinaryIO

import numpy as np


class GrowingArray:
    """A .npy file that grows by plain appends: memory stays flat, and its digest is known at the end."""

    def __init__(self, stream: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Begin a file of rows, `shape` in all."""
        self._stream, self._shape, self._dtype = stream, shape, dtype
        self._digest = hashlib.sha256()
        header = io.BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        self._put(header.getbuffer())

    def _put(self, data: memoryview) -> None:
        self._stream.write(data)
        self._digest.update(data)

    def append(self, rows: np.ndarray) -> None:
        """Append rows (B, …)."""
        self._put(np.ascontiguousarray(rows, self._dtype).data)

    def describe(self) -> dict[str, Any]:
        """The file's entry in the index."""
        return {"dtype": str(self._dtype), "shape": self._shape, "sha256": self._digest.hexdigest()}

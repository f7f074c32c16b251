"""What a search does to arrays: the same operations on torch's tensors and on NumPy's arrays.

A decoder of torch gives tensors, on a CPU or a GPU. An exported one gives NumPy arrays, and then torch is never loaded.
Beside `Operations`, a search uses only what both kinds have under one name: arithmetic, comparison, `reshape`,
`shape`, `tolist`, `all`, `cumsum`, and indices that are arrays, lists or slices.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from captioning.search.arrays import of_numpy

Array = Any
"""A torch.Tensor or a numpy.ndarray."""

State = tuple[Array, ...]
"""What a decoder remembers of its hypotheses: arrays (N, …)."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Operations(Protocol):
    """What the two libraries write in different ways. `like`: an array of the kind, and on the device, that is made."""

    def array(self, values: Any, like: Array) -> Array:
        """Numbers, lists of them or a NumPy array as an array."""

    def arange(self, count: int, like: Array) -> Array:
        """0, 1, … (count,)."""

    def zeros(self, shape: Sequence[int], like: Array) -> Array:
        """Zeros of the type of `like`."""

    def single(self, x: Array) -> Array:
        """In float32."""

    def double(self, x: Array) -> Array:
        """In float64."""

    def log_softmax(self, x: Array) -> Array:
        """Over the last axis."""

    def softmax(self, x: Array) -> Array:
        """Over the last axis."""

    def log_mean(self, parts: Sequence[Array]) -> Array:
        """The logarithm of the mean of several arrays, of which the logarithms are given."""

    def largest(self, x: Array, count: int) -> tuple[Array, Array]:
        """(N, V) → the `count` largest of each row, largest first, and where they are: (N, count) each."""

    def descending(self, x: Array) -> tuple[Array, Array]:
        """(N, V) → each row in descending order, and where its numbers were; of equals the first one first."""

    def order(self, x: Array) -> Array:
        """(…, V), bool → where the False ones are, and then the True ones; each in their order."""

    def maximum(self, x: Array) -> Array:
        """(N, V) → the largest of each row (N, 1)."""

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        """x where the condition holds, else y."""

    def finite(self, x: Array) -> Array:
        """Which numbers are finite."""

    def along(self, x: Array, indices: Array, axis: int) -> Array:
        """The elements at `indices` of an axis; the other axes are broadcast."""

    def rows(self, x: Array, rows: Array) -> Array:
        """The rows (C,) of the first axis."""

    def join(self, parts: Sequence[Array], axis: int) -> Array:
        """Arrays one behind the other along an axis."""

    def places(self, mask: Array) -> list[list[int]]:
        """Where a mask holds: an index for each axis."""

    def add_at(self, x: Array, rows: Array, columns: Array, values: Array) -> None:
        """Add values to x at (rows, columns), in place; to an element that is named twice, both."""


def operations(array: Array) -> Operations:
    """Those for the library that this array is of."""
    if isinstance(array, np.ndarray):
        return of_numpy
    from captioning.search.arrays import of_torch

    return of_torch


def without_gradients(search: Callable[_P, _R]) -> Callable[_P, _R]:
    """A search that torch, where it is loaded, keeps no record of."""

    @functools.wraps(search)
    def run(*arguments: _P.args, **options: _P.kwargs) -> _R:
        torch: Any = sys.modules.get("torch")
        if torch is None:
            return search(*arguments, **options)
        with torch.no_grad() if _casts(torch) else torch.inference_mode():
            return search(*arguments, **options)

    return run


def _casts(torch: Any) -> bool:
    """Is autocast on? It casts the weights once outside of inference mode, and inside it at every step anew."""
    return any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))

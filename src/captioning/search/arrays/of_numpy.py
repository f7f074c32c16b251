"""`Operations` on NumPy's arrays: see there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Values = np.ndarray


def array(values: Any, like: Values) -> Values:  # noqa: ARG001 (there is one device)
    return np.asarray(values)


def arange(count: int, like: Values) -> Values:  # noqa: ARG001
    return np.arange(count)


def zeros(shape: Sequence[int], like: Values) -> Values:
    return np.zeros(tuple(shape), like.dtype)


def single(x: Values) -> Values:
    return x.astype(np.float32, copy=False)


def double(x: Values) -> Values:
    return x.astype(np.float64)


def log_softmax(x: Values) -> Values:
    shifted: Values = x - x.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def softmax(x: Values) -> Values:
    raised: Values = np.exp(x - x.max(axis=-1, keepdims=True))
    raised /= raised.sum(axis=-1, keepdims=True)
    return raised


def log_mean(parts: Sequence[Values]) -> Values:
    stacked = np.stack(parts)
    top = stacked.max(axis=0)
    mean: Values = np.log(np.exp(stacked - top).mean(axis=0)) + top
    return mean


def largest(x: Values, count: int) -> tuple[Values, Values]:
    some = np.argpartition(x, x.shape[1] - count, axis=1)[:, x.shape[1] - count :]  # (N, count), in no order
    values = np.take_along_axis(x, some, axis=1)
    ranks = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, ranks, axis=1), np.take_along_axis(some, ranks, axis=1)


def descending(x: Values) -> tuple[Values, Values]:
    ranks = np.argsort(-x, axis=1, kind="stable")
    return np.take_along_axis(x, ranks, axis=1), ranks


def order(x: Values) -> Values:
    return np.argsort(x, axis=-1, kind="stable")


def maximum(x: Values) -> Values:
    top: Values = x.max(axis=1, keepdims=True)
    return top


def where(condition: Values, x: Values | float, y: Values | float) -> Values:
    return np.where(condition, x, y)


def finite(x: Values) -> Values:
    found: Values = np.isfinite(x)
    return found


def along(x: Values, indices: Values, axis: int) -> Values:
    return np.take_along_axis(x, indices, axis=axis)


def rows(x: Values, rows: Values) -> Values:
    found: Values = x[rows]
    return found


def join(parts: Sequence[Values], axis: int) -> Values:
    return np.concatenate(parts, axis=axis)


def places(mask: Values) -> list[list[int]]:
    found: list[list[int]] = np.argwhere(mask).tolist()
    return found


def add_at(x: Values, rows: Values, columns: Values, values: Values) -> None:
    np.add.at(x, (rows, columns), values)

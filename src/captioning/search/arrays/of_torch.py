"""`Operations` on torch's tensors: see there."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def array(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(values).to(like.device)


def arange(count: int, like: Tensor) -> Tensor:
    return torch.arange(count, device=like.device)


def zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    return like.new_zeros(tuple(shape))


def single(x: Tensor) -> Tensor:
    return x.float()


def double(x: Tensor) -> Tensor:
    return x.double()


def log_softmax(x: Tensor) -> Tensor:
    return x.log_softmax(dim=-1)


def softmax(x: Tensor) -> Tensor:
    return x.softmax(dim=-1)


def log_mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(parts)).logsumexp(0) - math.log(len(parts))


def largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values, places = x.topk(count, dim=1)
    return values, places


def descending(x: Tensor) -> tuple[Tensor, Tensor]:
    values, places = x.sort(dim=1, descending=True, stable=True)
    return values, places


def order(x: Tensor) -> Tensor:
    return x.byte().argsort(dim=-1, stable=True)


def maximum(x: Tensor) -> Tensor:
    return x.amax(1, keepdim=True)


def where(condition: Tensor, x: Tensor | float, y: Tensor | float) -> Tensor:
    return torch.where(condition, x, y)


def finite(x: Tensor) -> Tensor:
    return x.isfinite()


def along(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    return torch.take_along_dim(x, indices, dim=axis)


def rows(x: Tensor, rows: Tensor) -> Tensor:
    return x.index_select(0, rows)


def join(parts: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(tuple(parts), dim=axis)


def places(mask: Tensor) -> list[list[int]]:
    found: list[list[int]] = mask.nonzero().tolist()
    return found


def add_at(x: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> None:
    x.index_put_((rows, columns), values, accumulate=True)

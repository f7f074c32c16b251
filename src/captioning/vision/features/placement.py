"""Where the rows of a step are: on the device all the time, if they fit, or copied to it step by step.

N images, B images a batch.
"""

import copy

import numpy as np
import torch
from torch import Tensor

from captioning.vision.features.store import ARRAYS, FeatureStore, Sharded

_SHARE = 0.5  # of a GPU's free memory that a store may take: weights, activations and optimizer need the rest


class Resident:
    """An array (N, …) on a device: `array[rows]` gathers there, and only row numbers are copied to it."""

    def __init__(self, array: Sharded, device: torch.device) -> None:
        kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
        self._tensor = torch.empty(array.shape, dtype=kind, device=device)
        self.shape, self.dtype = array.shape, array.dtype
        for index, shard in enumerate(array.shards):
            start = index * array.rows_per_shard
            self._tensor[start : start + len(shard)] = torch.from_numpy(np.array(shard)).to(device)

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        """Rows (B,), in any order → a copy of them (B, …), on the device."""
        return self._tensor[moved(torch.tensor(rows), self._tensor.device)]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`. Copies to a GPU are asynchronous, from pinned memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_device(tensors: tuple[Tensor, ...], device: torch.device) -> tuple[Tensor, ...]:
    """`moved` for each."""
    return tuple(moved(tensor, device) for tensor in tensors)


def fits(size: int, free: int) -> bool:
    """May a store of `size` bytes stay on a device with `free` bytes?"""
    return size <= _SHARE * free


def settle(store: FeatureStore, device: torch.device) -> FeatureStore:
    """`store`, with its arrays on `device` if that is a GPU and they fit; else as it is."""
    if device.type != "cuda":
        return store
    names = [name for name in ARRAYS if getattr(store, name) is not None]
    size = sum(shard.nbytes for name in names for shard in getattr(store, name).shards)
    if not fits(size, torch.cuda.mem_get_info(device)[0]):
        return store
    settled = copy.copy(store)
    for name in names:
        setattr(settled, name, Resident(getattr(store, name), device))
    return settled

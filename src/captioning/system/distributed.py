"""Messages between the processes that torchrun started. They are JSON or tensors: nothing is pickled.

W processes.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import distributed as dist


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """The value that each process has, in order of rank, on all of them. JSON must be able to hold it."""
    if fabric.world_size == 1:
        return [value]
    data = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    sizes = _all_gather(fabric, torch.tensor([len(data)])).flatten().tolist()
    padded = torch.zeros(max(sizes), dtype=torch.uint8)
    padded[: len(data)] = torch.from_numpy(data.copy())
    rows = _all_gather(fabric, padded).numpy()  # (W, longest)
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def _all_gather(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """(…) → (W, …), on the CPU."""
    if fabric.world_size == 1:
        return tensor.unsqueeze(0)
    local = tensor.to(fabric.device)
    rows = [torch.empty_like(local) for _ in range(fabric.world_size)]
    dist.all_gather(rows, local)
    return torch.stack(rows).cpu()


def once(fabric: Fabric, function: Callable[[], Any]) -> Any:
    """What `function` returns on the first process, on all of them: decisions are taken in one place."""
    return gather(fabric, function() if fabric.is_global_zero else None)[0]


def random_states(fabric: Fabric) -> list[torch.Tensor]:
    """The state of each random generator (CPU, and GPU where there is one), of all processes: (W, bytes) each."""
    states = [torch.get_rng_state()]
    if fabric.device.type == "cuda":
        states.append(torch.cuda.get_rng_state(fabric.device))
    return [_all_gather(fabric, state) for state in states]


def restore_random_states(fabric: Fabric, states: list[torch.Tensor]) -> None:
    """Give this process its part of what `random_states` returned."""
    torch.set_rng_state(states[0][fabric.global_rank].clone())  # it takes no view
    if fabric.device.type == "cuda":
        torch.cuda.set_rng_state(states[1][fabric.global_rank].clone(), fabric.device)

"""Which tensors are cast to another type, and how often."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts them while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._times: Counter[int] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy):
            self._times[arguments[0].data_ptr()] += 1
        return function(*arguments, **(options or {}))

    @property
    def count(self) -> int:
        """How many casts there were."""
        return self._times.total()

    def of(self, tensors: Iterable[Tensor]) -> list[int]:
        """How often each of these was cast."""
        return [self._times[tensor.data_ptr()] for tensor in tensors]

"""Per-epoch sums kept on the device. `add` never synchronises; `read` does."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Sums:
    """Sums of named scalars in double precision, and the first step whose loss was not finite."""

    def __init__(self, start: Mapping[str, float], device: torch.device) -> None:
        """Begin with the sums in `start`; empty: with none."""
        self._names = list(start)
        self._total = torch.tensor(list(start.values()), dtype=torch.float64, device=device)
        self._bad_step = torch.full((), -1, device=device)
        self._bad_losses: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a step's values; their names are the same at every step."""
        step = torch.stack(list(values.values())).double()
        self._names, self._total = list(values), self._total + step if self._names else step

    def read(self) -> dict[str, float]:
        """The sums. This waits for the device."""
        return dict(zip(self._names, self._total.tolist(), strict=True))

    def watch(self, losses: Mapping[str, Tensor], step: int) -> Tensor:
        """Note the step if it is the first at which the sum of the losses is not finite.

        Returns 1.0 from that step on, and 0.0 before it, on the device.
        """
        total = torch.stack(list(losses.values())).sum()
        first = (self._bad_step < 0) & ~total.isfinite()
        self._bad_step = torch.where(first, step, self._bad_step)
        self._bad_losses = {
            name: torch.where(first, loss, self._bad_losses.get(name, loss)) for name, loss in losses.items()
        }
        return (self._bad_step >= 0).float()

    def first_bad(self) -> tuple[int, dict[str, float]] | None:
        """The first step whose loss was not finite, and its losses; None if there is none. Waits for the device."""
        step = int(self._bad_step)
        return None if step < 0 else (step, {name: loss.item() for name, loss in self._bad_losses.items()})

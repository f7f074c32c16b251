"""A moving average of the weights: what is validated and kept, in place of the weights of the last step.

Polyak and Juditsky 1992, with the exponential weights and the short memory of early steps that became usual
(`decay` is at most (1 + steps) / (10 + steps)).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of `network`, by the names of its state. A decay of 0 keeps none: the weights stay as they are."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self.state: dict[str, Tensor] = {}
        if decay:
            self.state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after `steps` optimizer steps."""
        if not self.state:
            return
        weight = 1 - min(self._decay, (1 + steps) / (10 + steps))
        now = self._network.state_dict()
        floating = [name for name, tensor in self.state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floating], [now[name] for name in floating], weight)
        for name in self.state.keys() - set(floating):  # BatchNorm's counts
            self.state[name].copy_(now[name])

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from the `state` of an earlier run, wherever its tensors are."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block, the network has the averaged weights."""
        if not self.state:
            yield
            return
        own = {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}
        self._network.load_state_dict(self.state)
        yield
        self._network.load_state_dict(own)

"""Several decoders as one: the mean of what they say (Vinyals et al. 2015, section 4.3).

N hypotheses, V words.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captioning.decoders.base import Decoder, Encoded, State


class Ensemble:
    """The mean of the members' probabilities, word by word. They must know the same words.

    It is searched as a decoder is, and reads what the encoder of each member says of the same pictures. The state is
    the members' states, one after the other. One member alone is searched as it is.
    """

    def __init__(self, members: Sequence[Decoder]) -> None:
        self.members = tuple(members)
        self._sizes: list[int] = []  # tensors in each member's state; it never changes

    def init(self, encoded: Sequence[Encoded]) -> State:
        """What each member's encoder says of B pictures → the state before the first word."""
        states = [member.init(said) for member, said in zip(self.members, encoded, strict=True)]
        self._sizes = [len(state) for state in states]
        return tuple(tensor for state in states for tensor in state)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → log mean probabilities (N, V) and the next state."""
        if len(self.members) == 1:
            return self.members[0].step(tokens, state)
        said: list[Tensor] = []
        after: list[Tensor] = []
        start = 0
        for member, size in zip(self.members, self._sizes, strict=True):
            logits, own = member.step(tokens, state[start : start + size])
            said.append(logits.float().log_softmax(1))
            after += own
            start += size
        return torch.stack(said).logsumexp(0) - math.log(len(said)), tuple(after)

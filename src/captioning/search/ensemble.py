"""Several decoders as one: the mean of their probabilities (Vinyals et al. 2015, section 4.3).

N hypotheses, V words.
"""

from collections.abc import Sequence
from itertools import chain, islice
from typing import Generic, Protocol, runtime_checkable

from captioning.search.arrays import Array, State, operations
from captioning.search.base import Speaker, T, T_contra
from captioning.search.consensus import Ids
from captioning.search.lending import Lent, joined


@runtime_checkable
class Lender(Protocol[T_contra]):
    """A decoder that looks captions up, and may lend them to others."""

    def lend(self, encoded: T_contra, /) -> list[tuple[list[Ids], list[float], list[Ids]]]:
        """See `RetrievalDecoder.lend`."""


class Ensemble(Generic[T]):
    """The mean of the members' probabilities, word by word. They must share a vocabulary.

    It is searched like a decoder, and reads what each member reads of the same images, a T. The state is
    the members' states, one after the other, and then what they have of the images. One member alone is searched as
    it is. Beside others, members that look captions up are not asked for probabilities: they lend captions.
    """

    def __init__(self, members: Sequence[Speaker[T]]) -> None:
        lending = [number for number, member in enumerate(members) if isinstance(member, Lender)]
        self._lending = lending if len(lending) < len(members) else []
        self._speaking = [number for number in range(len(members)) if number not in self._lending]
        self.lenders = tuple(member for member in members if isinstance(member, Lender)) if self._lending else ()
        self.members = tuple(members[number] for number in self._speaking)
        self.vocabulary = members[0].vocabulary
        self.shared = sum(member.shared for member in self.members)
        self._sizes: list[int] = []  # of each member's state: the tensors that are its own; they never change

    def init(self, encoded: Sequence[T]) -> State:
        """The output of each member's encoder for B images → the state before the first word."""
        own = [encoded[number] for number in self._speaking]
        states = [member.init(features) for member, features in zip(self.members, own, strict=True)]
        self._sizes = [len(state) - member.shared for state, member in zip(states, self.members, strict=True)]
        return self._join(states)

    def lent(self, encoded: Sequence[T]) -> list[Lent]:
        """What the members that look captions up lend for each of the B images; there must be one."""
        read = zip(self.lenders, (encoded[number] for number in self._lending), strict=True)
        each = [[Lent(*one) for one in lender.lend(features)] for lender, features in read]
        return [joined(parts) for parts in zip(*each, strict=True)]

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """tokens (N,) → log mean probabilities (N, V) and the next state."""
        if len(self.members) == 1:
            return self.members[0].step(tokens, state)
        log_probabilities: list[Array] = []
        after: list[State] = []
        of = operations(state[0])
        own, shared = iter(state), iter(state[len(state) - self.shared :])
        for member, size in zip(self.members, self._sizes, strict=True):
            logits, next_state = member.step(tokens, (*islice(own, size), *islice(shared, member.shared)))
            log_probabilities.append(of.log_softmax(of.single(logits)))
            after.append(next_state)
        return of.log_mean(log_probabilities), self._join(after)

    def _join(self, states: Sequence[State]) -> State:
        pairs = list(zip(states, self._sizes, strict=True))
        own, shared = ([state[:size] for state, size in pairs], [state[size:] for state, size in pairs])
        return tuple(chain.from_iterable(own + shared))

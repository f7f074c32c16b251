"""Beam search for captions with required phrases: constrained beam search (Anderson et al. 2017).

A finite-state machine reads the words of a hypothesis. A state is the set of phrases that are complete, and how far
the hypothesis has got in the others. Each state has a bank of K beams, so that a hypothesis competes only with those
in the same state. A caption may end only where all phrases are complete. There are 2^C states for C single words;
phrases of several words add some.

Phrases may come in groups, as a word and its plural: one of them says the group. Of some groups a caption needs only a
number, as nocaps asks for two of three objects (Agrawal et al. 2019). Once so many are said, the others are forgotten.

B images, K beams, S states, V words, W hypotheses an image (S * K).
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from captioning.data.text.vocabulary import Vocabulary
from captioning.search.arrays import Array, State, without_gradients
from captioning.search.base import Hypothesis, Speaker, T
from captioning.search.beam import Beams, run
from captioning.settings.search import SearchOptions
from captioning.system.errors import UserError

_LIMIT = 64  # states: six words, or fewer phrases

Phrase = tuple[int, ...]
Group = tuple[Phrase, ...]
_WORD = -1  # stands for every token that is in no phrase


class _MachineState(NamedTuple):
    """The groups that are not said yet, the longest end of the caption that begins a phrase, and those just said.

    A group that the last token said becomes unsaid again if the next token is joined to it. Groups are numbers.
    """

    left: frozenset[int]
    begun: Phrase = ()
    just: frozenset[int] = frozenset()


class _Goal(NamedTuple):
    """What a caption must say: each of the first `required` groups, and at least `least` of the others."""

    groups: tuple[Group, ...]
    required: int
    least: int

    def met(self, left: frozenset[int]) -> bool:
        """Whether a caption may end that has said all groups but these."""
        others = sum(group >= self.required for group in left)
        return others == len(left) and len(self.groups) - self.required - others >= self.least

    def state(self, left: frozenset[int], just: frozenset[int], ends: Sequence[Phrase]) -> _MachineState:
        """The state after a text with these ends. Once enough of the other groups are said for good, none is left."""
        others = frozenset(range(self.required, len(self.groups)))
        if len(others - left - just) >= self.least:
            left, just = left - others, just - others
        phrases = [phrase for group in left | just for phrase in self.groups[group]]
        begins = {phrase[:size] for phrase in phrases for size in range(len(phrase))}
        return _MachineState(left, next((end for end in ends if end in begins), ()), just)


@without_gradients
def constrained_search(decoder: Speaker[T], encoded: T, options: SearchOptions) -> list[list[Hypothesis]]:
    """The captions that ended, for each of the B images, in no order.

    Each has all phrases of `options.must`, and one of each of at least `options.least` groups of `options.some_of`.
    Raises UserError when no caption of at most `max_words` words can, or none was found under the bans.
    """
    machine = Machine.build(options.must, decoder.vocabulary, options.some_of, options.least)
    if machine.shortest > options.max_words:
        raise UserError(
            f"max_words = {options.max_words}: the required words and phrases take {machine.shortest} words; "
            "raise max_words or ask for less"
        )
    beams = _Banks(decoder, decoder.init(encoded), options, machine)
    run(decoder, beams)
    if not all(beams.ended):
        raise UserError(
            f"no caption with all required words was found under repeat_ngram = {options.repeat_ngram} and "
            f"max_words = {options.max_words}; ask for less, or lower repeat_ngram"
        )
    return beams.ended


class Machine(NamedTuple):
    """The finite-state machine. State 0 is the start; in the last one all that is asked for is said for good.

    moves: of each state, the state after each token of a phrase, and after any other, `_WORD`; where words are made of
    pieces there are two: for a token that begins a word, and for one that is joined to the word before it.
    ends: of each state, may the caption end in it? shortest: the fewest tokens from the start to one in which it may.
    """

    moves: list[list[dict[int, int]]]
    ends: list[bool]
    shortest: int

    @classmethod
    def build(
        cls, must: Sequence[Phrase], vocabulary: Vocabulary, some_of: Sequence[Group] = (), least: int = 0
    ) -> "Machine":
        """The machine of these phrases, all of which are said, and of groups of phrases, of which at least `least` are.

        Raises UserError when it would have too many states.
        """
        goal = _Goal((*((phrase,) for phrase in must), *some_of), len(must), least)
        phrases = [phrase for group in goal.groups for phrase in group]
        tokens = [_WORD, *sorted({token for phrase in phrases for token in phrase})]
        ways = (False, True) if vocabulary.continuing else (False,)
        start = goal.state(frozenset(range(len(goal.groups))), frozenset(), ())
        order, steps = [start], {start: 0}
        arrows: dict[_MachineState, list[dict[int, _MachineState]]] = {}
        for state in order:  # grows while it is read: breadth first, so that `steps` are the fewest
            arrows[state] = [
                {token: _read(goal, state, token, vocabulary, joined=way) for token in tokens} for way in ways
            ]
            for reached in chain.from_iterable(row.values() for row in arrows[state]):
                if reached not in steps:
                    steps[reached] = steps[state] + 1
                    order.append(reached)
            if len(order) > _LIMIT:
                raise UserError(
                    f"must: {len(phrases)} phrases of {len(tokens) - 1} different words are too many; ask for less"
                )
        last = _MachineState(frozenset())
        number = {state: index for index, state in enumerate([p for p in order if p != last] + [last])}
        moves = [
            [{token: number[reached] for token, reached in arrows[state][way].items()} for state in number]
            for way in range(len(ways))
        ]
        return cls(
            moves,
            [goal.met(state.left) for state in number],
            min(steps[state] for state in order if goal.met(state.left)),
        )

    def table(self, vocabulary: Vocabulary) -> np.ndarray:
        """The state after each of V tokens, (ways, S, V). `<eos>` leads to the last, or nowhere, −1."""
        return np.stack([self._table(row, vocabulary) for row in self.moves])

    def _table(self, moves: list[dict[int, int]], vocabulary: Vocabulary) -> np.ndarray:
        others, joined = (np.array([row[_WORD] for row in way])[:, None] for way in (moves, self.moves[-1]))
        table = np.tile(others, (1, len(vocabulary)))  # (S, V)
        table[:, sorted(vocabulary.continuing)] = joined
        for state, reached in enumerate(moves):
            for token in reached.keys() - {_WORD}:
                table[state, token] = reached[token]
        table[:, vocabulary.special.eos] = np.where(self.ends, len(self.ends) - 1, -1)
        return table


def _read(goal: _Goal, state: _MachineState, token: int, vocabulary: Vocabulary, *, joined: bool) -> _MachineState:
    """The state after one more token, which is joined to the word before it, or not; some are whatever is before."""
    joined = joined or token in vocabulary.continuing
    text = (*state.begun, token)
    inner = (place for place in range(1, len(state.begun)) if vocabulary.begins(text[place], text[place - 1]))
    starts = [*([0] if state.begun else []), *inner, *([] if joined else [len(text) - 1])]
    ends = [text[start:] for start in starts]
    left = state.left | state.just if joined else state.left
    just = frozenset(group for group in left if any(phrase in ends for phrase in goal.groups[group]))
    return goal.state(left - just, just if vocabulary.continuing else frozenset(), ends)


class _Banks(Beams):
    """Beams with a bank of K for each state of the machine: hypotheses k, K + k, 2K + k … are of states 0, 1, 2 …"""

    def __init__(self, decoder: Speaker[Any], state: State, options: SearchOptions, machine: Machine) -> None:
        super().__init__(decoder, state, options)
        self.states = len(machine.ends)
        opening = np.zeros(len(decoder.vocabulary), np.int64)
        opening[sorted(decoder.vocabulary.opening)] = 1
        self.opening = self.of.array(opening, self.tokens)  # (V,) 1: the next token is joined to this one
        self.table = self.of.array(machine.table(decoder.vocabulary), self.tokens)  # (ways, S, V)

    def _choose(self, total: Array) -> tuple[Array, Array]:
        width = total.shape[1]
        # at first there is one hypothesis, in state 0
        now = self.of.arange(width, self.tokens) // max(1, width // self.states)  # (W,)
        reached = self.table[self.opening[self.tokens[:, :, -1]], now]  # (B, W, V)
        banks = [super(_Banks, self)._choose(self.of.where(reached != s, -math.inf, total)) for s in range(self.states)]
        scores, flat = (self.of.join(parts, 1) for parts in zip(*banks, strict=True))
        return scores, flat

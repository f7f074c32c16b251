"""Beam search for captions with required phrases: constrained beam search (Anderson et al. 2017).

A finite-state machine reads the words of a hypothesis. A state is the set of phrases that are complete, and how far
the hypothesis has got in the others. Each state has a bank of K beams, so that a hypothesis competes only with those
in the same state. A caption may end only where all phrases are complete. There are 2^C states for C single words;
phrases of several words add some.

B images, K beams, S states, V words, W hypotheses an image (S * K).
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import Special, Vocabulary
from captioning.search.arrays import Array, without_gradients
from captioning.search.base import Hypothesis, Speaker, T
from captioning.search.beam import Beams, run
from captioning.settings.search import SearchOptions
from captioning.system.errors import UserError

if TYPE_CHECKING:
    from captioning.decoders.base import State

_LIMIT = 64  # states: six words, or fewer phrases

Phrase = tuple[int, ...]
_MachineState = tuple[frozenset[Phrase], Phrase]
"""A state: the phrases that are not complete yet, and the longest end of the caption that begins one of them."""


def phrases(vocabulary: Vocabulary, texts: Iterable[str]) -> tuple[Phrase, ...]:
    """Words or phrases, as people write them → `SearchOptions.must`.

    Raises UserError for one without a word, or with words that the vocabulary lacks, naming the closest it has.
    """
    required: dict[Phrase, None] = {}
    for text in texts:
        words = tokenize(text)
        if not words:
            raise UserError(f"must {text!r}: there is no word in it")
        for word, index in zip(words, vocabulary.encode(words), strict=True):
            if index == vocabulary.special.unk:
                close = difflib.get_close_matches(word, vocabulary.words[len(vocabulary.special) :], n=3, cutoff=0.5)
                hint = f"; did you mean {' or '.join(close)}?" if close else ""
                raise UserError(f"must {text!r}: the model's vocabulary has no word {word!r}{hint}")
        required[tuple(vocabulary.encode(words))] = None
    return tuple(required)


@without_gradients
def constrained_search(decoder: Speaker[T], encoded: T, options: SearchOptions) -> list[list[Hypothesis]]:
    """The captions that ended, for each of the B images, in no order; each has all phrases of `options.must`.

    Raises UserError when no caption of at most `max_words` words can, or none was found under the bans.
    """
    machine = Machine.build(options.must)
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
    """The finite-state machine. State 0 is the start; in the last one all phrases are complete.

    after: of each state, the state after any word that is not in `moves`. moves: of each state, word → state.
    shortest: the fewest words that lead from the start to the last state.
    """

    after: list[int]
    moves: list[dict[int, int]]
    shortest: int

    @classmethod
    def build(cls, must: Sequence[Phrase]) -> "Machine":
        """The machine of these phrases. Raises UserError when it would have too many states."""
        words = sorted({word for phrase in must for word in phrase})
        start: _MachineState = (frozenset(must), ())
        order, steps = [start], {start: 0}
        arrows: dict[_MachineState, dict[int, _MachineState]] = {}
        for state in order:  # grows while it is read: breadth first, so that `steps` are the fewest
            arrows[state] = {word: _read(state, word) for word in words} | {-1: (state[0], ())}
            for reached in arrows[state].values():
                if reached not in steps:
                    steps[reached] = steps[state] + 1
                    order.append(reached)
            if len(order) > _LIMIT:
                raise UserError(f"must: {len(must)} phrases of {len(words)} different words are too many; ask for less")
        goal: _MachineState = (frozenset(), ())
        number = {state: index for index, state in enumerate([p for p in order if p != goal] + [goal])}
        table = [{word: number[reached] for word, reached in arrows[state].items()} for state in number]
        return cls([row.pop(-1) for row in table], table, steps[goal])

    def table(self, words: int, special: Special) -> np.ndarray:
        """The state after each of V words: (S, V). `<eos>` leads nowhere, −1, but from the last."""
        table = np.tile(np.array(self.after)[:, None], (1, words))
        for state, moves in enumerate(self.moves):
            for word, reached in moves.items():
                table[state, word] = reached
        table[:-1, special.eos] = -1
        return table


def _read(state: _MachineState, word: int) -> _MachineState:
    """The state after one more word."""
    left, begun = state
    text = (*begun, word)
    left = frozenset(phrase for phrase in left if text[-len(phrase) :] != phrase)
    begins = {phrase[:size] for phrase in left for size in range(len(phrase))}
    ends = (text[start:] for start in range(len(text)))
    return left, next((end for end in ends if end in begins), ())


class _Banks(Beams):
    """Beams with a bank of K for each state of the machine: hypotheses k, K + k, 2K + k … are of states 0, 1, 2 …"""

    def __init__(self, decoder: Speaker[Any], state: "State", options: SearchOptions, machine: Machine) -> None:
        super().__init__(decoder, state, options)
        self.machine = machine
        self.table: Array | None = None  # (S, V), made when V is known

    def _choose(self, total: Array) -> tuple[Array, Array]:
        states, width = len(self.machine.after), total.shape[1]
        if self.table is None:
            self.table = self.of.array(self.machine.table(total.shape[2], self.special), total)
        # at first there is one hypothesis, in state 0
        reached = self.table[[w * states // width for w in range(width)]]  # (W, V)
        banks = [super(_Banks, self)._choose(self.of.where(reached != s, -math.inf, total)) for s in range(states)]
        scores, flat = (self.of.join(parts, 1) for parts in zip(*banks, strict=True))
        return scores, flat

"""What a caption claims, read by the grammar's own words.

A caption is parsed by the sentence patterns of `grammar` and by its phrases, as they stand in `phrases`: a changed word
list changes the parser. A phrase may stand wherever its symbol does, also where `grammar` would not put it. What no
pattern covers is unreadable; of such a caption `fragments` reads the longest phrases that are whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice, product

from captioning.data.text.tokenizer import tokenize
from captioning.evaluation.truth.phrases import (
    ACTORS,
    TABLES,
    THING,
    Deed,
    Meaning,
    Meanings,
    Mention,
    Place,
    Relation,
    Thing,
    Weather,
    Words,
)

# Each is a sentence of `grammar`; a word in capitals stands for the phrases of its table in `phrases`.
SENTENCES = (
    "NAME ACTS",
    "NAME ACTS GROUND",
    "NAME ACTS WEATHER",
    "NAME ACTS GROUND WEATHER",
    "NAME ACTS BESIDE NAME",
    "NAME ACTS BETWEEN NAME and NAME",
    "NAME ACTS BY THING",
    "NAME ACTS and there is THING WHERE",
    "NAME is DOING and NAME is DOING",
    "NAME and NAME are PLACE",
    "NAME NAME and NAME are PLACE",
    "PAIR are TOGETHER PLACE",
    "PAIR are DOING PLACE",
    "PAIR are DOING WEATHER",
    "CLAUSE and NAME is DOING",
    "there is NAME DOING GROUND",
    "there is THING WHERE",
    "there is THING BEHIND NAME",
)
FRAGMENTS = (*SENTENCES, "NAME", "PAIR", "PAIR are DOING", "NAME and NAME", "THING", "WEATHER", "CLAUSE", "PLACE")
_FEW = 16  # readings of one caption's fragments that are kept


@dataclass(frozen=True)
class Reading:
    """One way to understand a caption; names are those of `composition`."""

    mentions: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()
    things: frozenset[str] = frozenset()
    weathers: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()

    def __add__(self, other: "Reading") -> "Reading":
        """Both, about different actors."""
        count = len(self.mentions)
        moved = (replace(relation, who=tuple(i + count for i in relation.who)) for relation in other.relations)
        return Reading(
            self.mentions + other.mentions,
            (*self.relations, *moved),
            self.things | other.things,
            self.weathers | other.weathers,
            self.places | other.places,
        )


@lru_cache(maxsize=1 << 14)
def sentences(caption: str) -> tuple[Reading, ...]:
    """All ways in which the whole caption is a sentence of the grammar; none if it is unreadable."""
    tokens = tuple(tokenize(caption))
    readings = (reading for end, reading in _at(SENTENCES, tokens, 0) if end == len(tokens))
    return tuple(dict.fromkeys(readings))


@lru_cache(maxsize=1 << 14)
def fragments(caption: str) -> tuple[Reading, ...]:
    """All ways to read the phrases of a caption: from left to right the longest that is whole, other words skipped."""
    tokens = tuple(tokenize(caption))
    parts, at = [], 0
    while at < len(tokens):
        ends = list(_at(FRAGMENTS, tokens, at))
        longest = max((end for end, _ in ends), default=at)
        if longest > at:
            parts.append(tuple(dict.fromkeys(reading for end, reading in ends if end == longest)))
        at = max(longest, at + 1)
    return tuple(islice((sum(ways, Reading()) for ways in product(*parts)), _FEW))


def _at(patterns: Iterable[str], tokens: Words, at: int) -> Iterator[tuple[int, Reading]]:
    """Where each pattern that begins at word `at` can end, with what it then means."""
    for pattern in patterns:
        for end, meanings in _match(pattern.split(), tokens, at):
            if _fits(meanings):
                yield end, _understand(meanings)


_LENGTHS = {symbol: sorted({len(phrase) for phrase in table}) for symbol, table in TABLES.items()}


def _match(symbols: Sequence[str], tokens: Words, at: int) -> Iterator[tuple[int, Meanings]]:
    if not symbols:
        yield at, ()
        return
    table = TABLES.get(symbols[0], {(symbols[0],): [()]})
    for length in _LENGTHS.get(symbols[0], [1]):
        for meanings in table.get(tokens[at : at + length], ()):
            for end, others in _match(symbols[1:], tokens, at + length):
                yield end, meanings + others


def _fits(meanings: Meanings) -> bool:
    """Whether `grammar` puts these together: children's deeds with children, and only birds in the sky."""
    before: list[Mention] = []
    for meaning in meanings:
        if isinstance(meaning, Mention):
            before.append(meaning)
        elif not _suits(meaning, before):
            return False
    return True


def _suits(meaning: Meaning, before: Sequence[Mention]) -> bool:
    if isinstance(meaning, Deed):
        return meaning.child == before[-1].child
    if isinstance(meaning, Place) and meaning.bird is not None:
        return meaning.bird == (before[0].kind == "bird")
    return True


def _understand(meanings: Meanings) -> Reading:
    """What the phrases of one sentence mean together. A deed is of all those before it who do nothing yet."""
    mentions: list[Mention] = []
    for meaning in meanings:
        if isinstance(meaning, Mention):
            mentions.append(meaning)
        elif isinstance(meaning, Deed):
            mentions = [replace(m, deed=meaning) if m.deed is None else m for m in mentions]
    things = [meaning.name for meaning in meanings if isinstance(meaning, Thing)]
    return Reading(
        tuple(mentions),
        tuple(_relation(m, len(mentions), *things) for m in meanings if isinstance(m, Relation)),
        frozenset(things),
        frozenset(m.name for m in meanings if isinstance(m, Weather)),
        frozenset(m.name for m in meanings if isinstance(m, Place) and m.name is not None),
    )


def _relation(relation: Relation, count: int, thing: str | None = None) -> Relation:
    """The relation with its arguments: the thing, and all `count` who are mentioned unless it is of the thing alone."""
    everybody = () if relation.name in THING else tuple(range(count))
    return replace(relation, who=everybody, thing=None if relation.name in ACTORS else thing)

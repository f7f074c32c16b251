"""The phrases of the scenes' captions, each with what it means: `words`, turned round.

TABLES has, for each symbol of `reading.SENTENCES`, the phrases that may stand there. They are made of the lists of
`words`, of `composition` and of nothing else but the few function words that `grammar` has in its own code.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from captioning.data.datasets.scenes import words
from captioning.data.datasets.scenes.composition import COATS, COLOURS, PROPS, Actor
from captioning.data.datasets.scenes.grammar import with_article
from captioning.data.text.tokenizer import tokenize


@dataclass(frozen=True)
class Deed:
    """What somebody does. `noun` and `colour` are of what is held; `child`: whether children do it, or animals."""

    action: str
    child: bool
    noun: str | None = None
    colour: str | None = None


@dataclass(frozen=True)
class Mention:
    """Somebody. `colour` is of the coat, or of the `garment`; `hat` is the word for it."""

    kind: str
    colour: str | None = None
    garment: str | None = None
    hat: str | None = None
    deed: Deed | None = None

    @property
    def child(self) -> bool:
        """Whether this is a boy or a girl."""
        return Actor(self.kind, "", "").child


@dataclass(frozen=True)
class Relation:
    """Where somebody is (`who`: indices of mentions), or the thing. `name` is a key of `claims.RELATIONS`."""

    name: str
    who: tuple[int, ...] = ()
    thing: str | None = None


@dataclass(frozen=True)
class Thing:
    """A thing of composition.THINGS."""

    name: str


@dataclass(frozen=True)
class Weather:
    """A weather that a scene can have."""

    name: str


@dataclass(frozen=True)
class Place:
    """A place of composition.THINGS; None is the sky. `bird`: whether it is said of a bird; None: of anybody."""

    name: str | None
    bird: bool | None = None


Meaning = Deed | Mention | Relation | Thing | Weather | Place
Meanings = tuple[Meaning, ...]
Words = tuple[str, ...]
Table = Mapping[Words, Sequence[Meanings]]
_Pairs = Iterable[tuple[str, Meanings]]

_PAINTS = tuple(dict.fromkeys((*COLOURS, *(colour for coats in COATS.values() for colour in coats))))
_GARMENTS = tuple(dict.fromkeys(garment for garments in words.CLOTHES.values() for garment in garments))
_HATS = tuple(dict.fromkeys(hat for hats in words.HATS.values() for hat in hats))
ACTORS = ("next to", "near", "left of", "right of", "between")  # relations between actors
THING = ("water", "background", "left", "right")  # where the thing is, whoever is there


def _names() -> Iterator[tuple[str, Meanings]]:
    for kind, names in words.NAMES.items():
        if Mention(kind).child:
            for name in names + words.VAGUE:
                yield from _dressed(kind, with_article(name))
            continue
        for name in names:
            yield with_article(name), (Mention(kind),)
            for colour in _PAINTS:
                yield with_article(f"{colour} {name.split()[-1]}"), (Mention(kind, colour),)


def _dressed(kind: str, name: str) -> Iterator[tuple[str, Meanings]]:
    yield name, (Mention(kind),)
    for garment in _GARMENTS:
        for colour in _PAINTS:
            for worn in ("in", "wearing"):
                clothes = with_article(f"{colour} {garment}")
                yield f"{name} {worn} {clothes}", (Mention(kind, colour, garment),)
    for hat in _HATS:
        for worn in ("with", "in", "wearing"):
            yield f"{name} {worn} {with_article(hat)}", (Mention(kind, hat=hat),)


def _pairs() -> Iterator[tuple[str, Meanings]]:
    for (first, second), phrases in words.PAIRS.items():
        yield from ((phrase, (Mention(first), Mention(second))) for phrase in phrases)


def _props() -> Iterator[tuple[str, str, str | None]]:
    """What can be held: phrase, noun and colour."""
    for noun in PROPS.values():
        yield with_article(noun), noun, None
        yield from ((with_article(f"{colour} {noun}"), noun, colour) for colour in _PAINTS)


def _deeds(action: str, phrase: str, *, child: bool) -> Iterator[tuple[str, Meanings]]:
    """A phrase of what is done, with all that may be held where it has a place for that."""
    if "{prop}" not in phrase or not child:
        yield phrase.format(prop="").rstrip(), (Deed(action, child),)
        return
    for prop, noun, colour in _props():
        yield phrase.format(prop=prop), (Deed(action, child, noun, colour),)


def _doing() -> Iterator[tuple[str, Meanings]]:
    for child, deeds in ((True, words.DEEDS), (False, words.HABITS)):
        for action, phrases in deeds.items():
            for phrase in phrases:
                yield from _deeds(action, phrase, child=child)


def _acts() -> Iterator[tuple[str, Meanings]]:
    for phrase, deed in _doing():
        yield from ((phrase, deed), (f"is {phrase}", deed))
    for child, deeds in ((True, words.DEEDS), (False, words.HABITS)):
        for action in deeds:
            yield from _deeds(action, words.SIMPLE[action], child=child)


def _grounds() -> Iterator[tuple[str, Meanings]]:
    yield "in the sky", (Place(None, bird=True),)
    yield from ((f"over {below}", (Place(place, bird=True),)) for place, below in words.BELOW.items())
    yield from ((phrase, (Place(place, bird=False),)) for phrase, place in _each(words.PLACES))
    yield from ((f"on {with_article(bench)}", (Relation("on"), Thing("bench"))) for bench in words.THINGS["bench"])


def _each(lists: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    return ((phrase, name) for name, phrases in lists.items() for phrase in phrases)


def _relations(names: Mapping[str, str]) -> _Pairs:
    return ((phrase, (Relation(name),)) for phrase, name in names.items())


def _table(phrases: _Pairs) -> Table:
    """Tokenised phrase → all that it can mean."""
    table: dict[Words, list[Meanings]] = {}
    for phrase, meanings in phrases:
        known = table.setdefault(tuple(tokenize(phrase)), [])
        if meanings not in known:
            known.append(meanings)
    return table


_NEXT = {phrase: "near" if phrase == "near" else "next to" for phrase in words.BESIDE}
_SIDES = {f"to the {side} of": f"{side} of" for side in ("left", "right")}

TABLES: Mapping[str, Table] = {
    "NAME": _table(_names()),
    "PAIR": _table(_pairs()),
    "DOING": _table(_doing()),
    "ACTS": _table(_acts()),
    "TOGETHER": _table((phrase, ()) for phrase in ("playing", "together")),
    "PLACE": _table((phrase, (Place(place),)) for phrase, place in _each(words.PLACES)),
    "GROUND": _table(_grounds()),
    "WEATHER": _table((phrase, (Weather(weather),)) for phrase, weather in _each(words.WEATHER)),
    "CLAUSE": _table((phrase, (Weather(weather),)) for phrase, weather in _each(words.CLAUSES)),
    "THING": _table((with_article(phrase), (Thing(thing),)) for phrase, thing in _each(words.THINGS)),
    "BESIDE": _table(_relations(_NEXT | _SIDES | {"near": "near"})),
    "BETWEEN": _table(_relations({"between": "between"})),
    "BEHIND": _table(_relations({"behind": "behind"})),
    "BY": _table(_relations(dict.fromkeys(words.BESIDE, "by") | {"under": "under", "in front of": "in front of"})),
    "WHERE": _table(
        _relations({"on the water": "water", "in the background": "background"} | {f"on the {s}": s for s in THING[2:]})
    ),
}

"""How much of what a caption claims is true of the scene that was drawn.

A caption is true if it is a sentence of the grammar, and there is a way to read it, and to take those it mentions for
different actors of the scene, under which every claim holds. RELATIONS says what a relation needs.

Precision and recall are over claims of six KINDS. A caption's claims are those of the reading and of the assignment to
actors under which most of them are true, and least are false. Of an unreadable caption the whole phrases count.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from captioning.data.datasets.scenes import geometry, words
from captioning.data.datasets.scenes.composition import PROPS, Actor, Scene, thing_x
from captioning.evaluation.truth import reading
from captioning.evaluation.truth.phrases import Deed, Mention, Relation
from captioning.evaluation.truth.reading import Reading

KINDS = ("objects", "attributes", "actions", "relations", "weather", "place")

Fact = tuple[Hashable, ...]
_Indices = tuple[int | None, ...]  # of actors, one a mention; None: no actor is meant


class Claim(NamedTuple):
    """One thing that is claimed. `facts` are those of the scene that it mentions, where it is true."""

    kind: str
    true: bool
    facts: frozenset[Fact]


def facts(scene: Scene) -> dict[str, frozenset[Fact]]:
    """All that could be claimed of a scene, by kind: recall is the share of it that a caption mentions.

    objects: each actor, what it holds, the thing. attributes: each actor's colour and hat, the colour of what it holds.
    actions: each actor's. relations: each two actors, and where the thing is. weather and place: one each.
    """
    everybody = range(len(scene.actors))
    holders = [i for i in everybody if scene.actors[i].prop is not None]
    hats = [i for i in everybody if scene.actors[i].hat]
    things: list[Fact] = [] if scene.thing is None else [("thing",)]
    where: list[Fact] = [("where",) for _ in things]
    return {
        "objects": frozenset([*_each("actor", everybody), *_each("prop", holders), *things]),
        "attributes": frozenset([*_each("colour", everybody), *_each("hat", hats), *_each("prop colour", holders)]),
        "actions": frozenset(_each("action", everybody)),
        "relations": frozenset([*(("pair", *pair) for pair in combinations(everybody, 2)), *where]),
        "weather": frozenset([("weather",)]),
        "place": frozenset([("place",)]),
    }


def _each(name: str, indices: Iterable[int]) -> Iterator[Fact]:
    return ((name, index) for index in indices)


def judge(caption: str, scene: Scene) -> tuple[bool, list[Claim]]:
    """Whether all that a caption says is true, and its claims under the reading and assignment that suit it best."""
    whole = reading.sentences(caption)
    kinds = tuple(actor.kind for actor in scene.actors)
    ways = [
        list(_claims(way, scene, who))
        for way in whole or reading.fragments(caption)
        for who in _assignments(tuple(mention.kind for mention in way.mentions), kinds)
    ]
    best = max(ways, key=_suits)
    return bool(whole) and all(claim.true for claim in best), best


def _suits(claims: Sequence[Claim]) -> tuple[bool, int]:
    true = sum(claim.true for claim in claims)
    return true == len(claims), 2 * true - len(claims)


@lru_cache(maxsize=1 << 10)
def _assignments(mentions: tuple[str, ...], actors: tuple[str, ...]) -> tuple[_Indices, ...]:
    """All ways to take each mention for another actor of its kind, or for none. Both are given by their kinds."""
    if not mentions:
        return ((),)
    return tuple(
        (*earlier, index)
        for earlier in _assignments(mentions[:-1], actors)
        for index in (*range(len(actors)), None)
        if index is None or (index not in earlier and actors[index] == mentions[-1])
    )


def _claims(read: Reading, scene: Scene, who: _Indices) -> Iterator[Claim]:
    for mention, index in zip(read.mentions, who, strict=True):
        yield from _claims_of(mention, scene, index)
    for thing in sorted(read.things):
        yield Claim("objects", thing == scene.thing, frozenset([("thing",)]))
    for relation in read.relations:
        yield _relation(relation, scene, who)
    for weather in sorted(read.weathers):
        yield Claim("weather", weather == scene.weather, frozenset([("weather",)]))
    for place in sorted(read.places):
        yield Claim("place", place == scene.place, frozenset([("place",)]))


def _claims_of(mention: Mention, scene: Scene, index: int | None) -> Iterator[Claim]:
    """Of one mention, taken for actor `index`, who is of its kind. Where that is None, nothing of it is true."""
    actor = None if index is None else scene.actors[index]
    yield Claim("objects", actor is not None, frozenset([("actor", index)]))
    if mention.colour is not None:
        true = actor is not None and actor.colour == mention.colour
        true = true and (mention.garment is None or mention.garment in _wardrobe(words.CLOTHES, mention.kind, scene))
        yield Claim("attributes", true, frozenset([("colour", index)]))
    if mention.hat is not None:
        true = actor is not None and actor.hat and mention.hat in _wardrobe(words.HATS, mention.kind, scene)
        yield Claim("attributes", true, frozenset([("hat", index)]))
    if mention.deed is not None:
        yield from _claims_of_deed(mention.deed, actor, scene, index)


def _claims_of_deed(deed: Deed, actor: Actor | None, scene: Scene, index: int | None) -> Iterator[Claim]:
    done = actor is not None and actor.action == deed.action and deed.noun in (None, PROPS.get(actor.action))
    yield Claim("actions", done, frozenset([("action", index)]))
    if deed.noun is None:
        return
    holder = _holder(deed.noun, scene, index)
    yield Claim("objects", holder is not None, frozenset([("prop", holder)]))
    if deed.colour is not None:
        true = holder is not None and scene.actors[holder].prop == deed.colour
        yield Claim("attributes", true, frozenset([("prop colour", holder)]))


def _wardrobe(lists: Mapping[str, Sequence[str]], kind: str, scene: Scene) -> Sequence[str]:
    """The words for what a child wears: on snow boys and girls wear the same."""
    return lists["snow" if scene.place == "snow" else kind]


def _holder(noun: str, scene: Scene, index: int | None) -> int | None:
    """Who holds such a thing: actor `index`, if it does, else the first who does, or None."""
    holders = [i for i, actor in enumerate(scene.actors) if actor.prop is not None and PROPS[actor.action] == noun]
    return index if index in holders else next(iter(holders), None)


def _relation(relation: Relation, scene: Scene, who: _Indices) -> Claim:
    """True only if all whom it is about are there, and the thing is."""
    actors = [index for i in relation.who if (index := who[i]) is not None]
    there = len(actors) == len(relation.who) and relation.thing in (None, scene.thing)
    pairs: list[Fact] = [("pair", *pair) for pair in combinations(sorted(actors), 2)]
    mentioned = pairs if relation.thing is None else [("where",)]
    return Claim("relations", there and RELATIONS[relation.name](scene, *actors), frozenset(mentioned))


def _next(scene: Scene, first: int, second: int) -> bool:
    return abs(first - second) == 1 and "bird" not in (scene.actors[first].kind, scene.actors[second].kind)


# name of a relation → whether it is true of these actors, by index from left to right
RELATIONS: Mapping[str, Callable[..., bool]] = {
    "next to": _next,
    "near": lambda _, first, second: abs(first - second) == 1,
    "left of": lambda _, first, second: first < second,
    "right of": lambda _, first, second: first > second,
    "between": lambda _, middle, first, second: abs(middle - first) == 1 == abs(middle - second),
    "by": geometry.by_thing,
    "under": lambda scene, index: scene.thing in geometry.ROOFS and geometry.close(scene, index),
    "in front of": geometry.close,
    "behind": geometry.behind,
    "on": lambda scene, index: scene.seat == index,
    "left": lambda scene: scene.seat is None and thing_x(scene) < 50,
    "right": lambda scene: scene.seat is None and thing_x(scene) > 50,
    "background": lambda scene: scene.seat is None,
    "water": lambda scene: scene.thing == "boat",
}

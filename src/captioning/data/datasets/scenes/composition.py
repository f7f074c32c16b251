"""What is in a scene, and where: compositions drawn by lot, without repetition."""

from dataclasses import dataclass, replace
from random import Random

COLOURS = ("red", "blue", "yellow", "green", "purple")
PROPS = {"kicking": "ball", "holding": "balloon", "flying": "kite", "sheltering": "umbrella", "reading": "book"}
COATS = {
    "dog": ("brown", "black", "white"),
    "cat": ("orange", "grey", "black"),
    "rabbit": ("white", "brown", "grey"),
    "duck": ("yellow", "white"),
    "sheep": ("white",),
    "bird": ("blue", "red", "yellow"),
}
HABITS = {
    "dog": ("running", "sitting", "standing", "sleeping"),
    "cat": ("running", "sitting", "standing", "sleeping"),
    "rabbit": ("sitting", "hopping"),
    "duck": ("walking",),
    "sheep": ("standing",),
    "bird": ("flying",),
}
THINGS = {
    "meadow": ("tree", "tent", "house"),
    "park": ("tree", "bench", "slide"),
    "beach": ("palm", "boat", "sandcastle"),
    "snow": ("pine", "snowman", "house"),
}
ANIMALS = {
    "meadow": ("dog", "cat", "rabbit", "duck", "sheep", "bird"),
    "park": ("dog", "cat", "rabbit", "duck", "bird"),
    "beach": ("dog", "cat", "duck", "bird"),
    "snow": ("dog", "cat", "rabbit", "bird"),
}
WEATHERS = ("sunny", "cloudy", "rainy", "evening", "night")
_CASTS = ((1, 1),) * 9 + ((2, 0),) * 3 + ((2, 1),) * 3 + ((1, 0),) * 2 + ((1, 2), (0, 1), (0, 2))
_CENTRES = {1: (52.0,), 2: (31.0, 69.0), 3: (19.0, 50.0, 81.0)}
_SHIFTS = {1: 12.0, 2: 7.0, 3: 0.0}  # how far the actors make room for the thing
_THING_X = {1: 25.0, 2: 22.0, 3: 34.0}
_HEIGHTS = {1: 62.0, 2: 55.0, 3: 47.0}


@dataclass(frozen=True)
class Actor:
    """A child or an animal. `colour` is of the clothes or of the coat; `prop` is the colour of the thing in use."""

    kind: str
    colour: str
    action: str
    prop: str | None = None
    hat: bool = False

    @property
    def child(self) -> bool:
        """Whether this is a boy or a girl."""
        return self.kind in ("boy", "girl")


@dataclass(frozen=True)
class Scene:
    """A composition: one to three actors from left to right, at most one thing behind them, weather and place.

    `side` is where the thing stands, `left` or `right`; `seed` decides what no sentence mentions, and the wording.
    """

    seed: str
    place: str
    weather: str
    actors: tuple[Actor, ...]
    thing: str | None
    side: str

    @property
    def key(self) -> tuple[object, ...]:
        """What no two scenes share: the set of things and attributes, without left and right and without hats."""
        actors = tuple(sorted(repr(replace(actor, hat=False)) for actor in self.actors))
        return (self.place, self.weather, self.thing, actors)

    @property
    def seat(self) -> int | None:
        """The index of the child that sits on the bench, if one does."""
        if self.thing != "bench":
            return None
        return next((i for i, a in enumerate(self.actors) if a.child and a.action in ("sitting", "reading")), None)


@dataclass(frozen=True)
class Spot:
    """Where something stands: its foot, its height (both in hundredths of the image) and whether it faces left."""

    x: float
    y: float
    height: float
    flip: bool = False


def compose(count: int, seed: int) -> list[Scene]:
    """`count` scenes, no two of which have the same `key`; the same seed gives the same scenes."""
    scenes: dict[tuple[object, ...], Scene] = {}
    draw = 0
    while len(scenes) < count:
        scene = _scene(f"{seed}/{draw}")
        scenes.setdefault(scene.key, scene)
        draw += 1
    return list(scenes.values())


def _scene(seed: str) -> Scene:
    rng = Random(seed)
    place = rng.choice(tuple(THINGS))
    weather = rng.choice(WEATHERS)
    if place == "snow" and weather == "rainy":
        weather = "snowy"
    children, animals = rng.choice(_CASTS)
    actors = _children(rng, children, weather)
    busy_sky = any(actor.action == "flying" for actor in actors)
    actors += _animals(rng, animals, [kind for kind in ANIMALS[place] if kind != "bird" or not busy_sky])
    rng.shuffle(actors)
    thing = rng.choice(THINGS[place]) if rng.random() < 0.72 else None
    return Scene(seed, place, weather, tuple(actors), thing, rng.choice(("left", "right")))


def _children(rng: Random, count: int, weather: str) -> list[Actor]:
    kinds = rng.choice((("boy", "girl"), ("girl", "boy"), ("boy", "girl"), ("girl", "girl"), ("boy", "boy")))
    colours = rng.sample(COLOURS, 2)
    first = _deed(rng, weather)
    second = first if first in ("running", "jumping", "sitting") and rng.random() < 0.5 else _deed(rng, weather)
    if second in PROPS:  # one kite, ball or book an image
        second = rng.choice(("waving", "running", "jumping", "sitting")) if first in PROPS else second
    return [_child(rng, *who) for who in zip(kinds[:count], colours, (first, second), strict=False)]


def _deed(rng: Random, weather: str) -> str:
    deeds = ["waving", "running", "jumping", "sitting", "kicking", "holding"]
    if weather in ("rainy", "snowy"):
        deeds += ["sheltering"] * 4
    else:
        deeds += ["reading", "flying"]
    return rng.choice(deeds)


def _child(rng: Random, kind: str, colour: str, action: str) -> Actor:
    prop = rng.choice([c for c in COLOURS if c != colour]) if action in PROPS else None
    return Actor(kind, colour, action, prop, hat=action != "sheltering" and rng.random() < 0.3)


def _animals(rng: Random, count: int, kinds: list[str]) -> list[Actor]:
    return [Actor(kind, rng.choice(COATS[kind]), rng.choice(HABITS[kind])) for kind in rng.sample(kinds, count)]


def spots(scene: Scene) -> list[Spot]:
    """Where the actors are, in their order: x rises from left to right. A bird's y is in the sky."""
    rng = Random(f"{scene.seed}/spots")
    count = len(scene.actors)
    alone = not any(actor.child for actor in scene.actors)
    shift = _SHIFTS[count] * (0 if scene.thing is None or scene.seat is not None else 1 if scene.side == "left" else -1)
    free = []
    for i, centre in enumerate(_CENTRES[count]):
        x = centre + shift + rng.uniform(-3, 3)
        y = rng.uniform(82, 95)
        height = _HEIGHTS[count] * (0.55 + 0.5 * (y - 50) / 42) * (1.15 if alone else 1.0)
        flip = x > 58 or (x > 42 and rng.random() < 0.5)
        free.append(Spot(x, rng.uniform(27, 34) if scene.actors[i].kind == "bird" else y, height, flip))
    return free


def thing_x(scene: Scene) -> float:
    """Where the thing stands: at its side, or under the child that sits on it."""
    if scene.seat is not None:
        return spots(scene)[scene.seat].x
    left = _THING_X[len(scene.actors)] + Random(f"{scene.seed}/thing").uniform(-2, 2)
    return left if scene.side == "left" else 100 - left

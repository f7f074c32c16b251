"""Five sentences about a scene, by a grammar: each mentions part of the image, as people do."""

from collections.abc import Callable, Sequence
from random import Random

from captioning.data.datasets.scenes import geometry, words
from captioning.data.datasets.scenes.composition import PROPS, Scene

COUNT = 5
_SHORTEST, _LONGEST = 5, 16  # words in a sentence
_USUAL = 0.84  # how often the usual word is taken


def sentences(scene: Scene) -> list[str]:
    """Five different sentences, each of 5 to 16 words, with a capital and a full stop."""
    teller = _Teller(scene)
    written: list[str] = []
    for topic in teller.topics():
        text = topic()
        while text in written or not _SHORTEST <= len(text.split()) <= _LONGEST:
            text = topic()
        written.append(text)
    return [f"{text[0].upper()}{text[1:]}." for text in written]


def with_article(noun: str) -> str:
    """`noun` behind `a` or `an`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class _Teller:
    """Tells about one scene. Methods in the first half make phrases, those in the second half whole sentences."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = Random(f"{scene.seed}/sentences")
        self.actors = scene.actors
        everyone = range(len(scene.actors))
        self.children = [i for i in everyone if scene.actors[i].child]
        self.animals = [i for i in everyone if not scene.actors[i].child]
        self.hero = self.rng.choice(self.children or self.animals)  # whom most sentences are about

    def topics(self) -> list[Callable[[], str]]:
        """What the five sentences are about, in any order."""
        others = [self.sky, self.place]
        if self.scene.thing:
            others.append(self.thing)
        if self.animals and self.children:
            others.append(self.animal)
        if len(self.actors) > 1:
            others.append(self.company)
        selected = [self.deed, self.whole, *self.rng.sample(others, min(3, len(others)))]
        selected += [self.deed] * (COUNT - len(selected))
        self.rng.shuffle(selected)
        return selected

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def often(self, ways: Sequence[str], share: float = _USUAL) -> str:
        """The first with probability `share`, else any."""
        return ways[0] if self.chance(share) else self.rng.choice(ways)

    def name(self, index: int, dressed: float = 0.8, *, vague: bool = False) -> str:
        """An actor with article. `dressed`: the chance that clothes are mentioned; `vague`: it may be just a kid."""
        actor = self.actors[index]
        name = self.often(words.NAMES[actor.kind] + (words.VAGUE if vague and actor.child else ()))
        if not actor.child:
            return with_article(f"{actor.colour} {name.split()[-1]}" if self.chance(0.9) else name)
        kind = "snow" if self.scene.place == "snow" else actor.kind
        if self.chance(dressed):
            clothes = with_article(f"{actor.colour} {self.often(words.CLOTHES[kind])}")
            return f"{with_article(name)} {self.often(('in', 'wearing'))} {clothes}"
        if actor.hat and self.chance(0.5):
            hat = with_article(self.rng.choice(words.HATS[kind]))
            return f"{with_article(name)} {self.rng.choice(('with', 'in', 'wearing'))} {hat}"
        return with_article(name)

    def doing(self, index: int) -> str:
        """What the actor does, behind `is`."""
        actor = self.actors[index]
        deed = self.often((words.DEEDS if actor.child else words.HABITS)[actor.action])
        return deed.format(prop=self.prop(index))

    def prop(self, index: int) -> str:
        """What the child holds or plays with; empty for all others."""
        actor = self.actors[index]
        noun = PROPS.get(actor.action) if actor.child else None
        if noun is None:
            return ""
        return with_article(f"{actor.prop} {noun}" if self.chance(0.92) else noun)

    def does(self, index: int) -> str:
        """The same in the simple present."""
        return words.SIMPLE[self.actors[index].action].format(prop=self.prop(index)).rstrip()

    def acts(self, index: int) -> str:
        """What the actor does, behind its name: mostly `is running`, else `runs` or `running`."""
        doing = self.doing(index)
        return self.often((f"is {doing}", self.does(index), doing))

    def ground(self, index: int) -> str:
        """Where the actor is: the seat, the sky or the place."""
        if self.scene.seat == index:
            return f"on {with_article(self.often(words.THINGS['bench']))}"
        if self.actors[index].kind == "bird":
            return self.often(("in the sky", f"over {words.BELOW[self.scene.place]}"))
        return self.often(words.PLACES[self.scene.place])

    def weather(self) -> str:
        return self.often(words.WEATHER[self.scene.weather])

    def beside(self, index: int, other: int) -> str:
        """Next to another actor; words for a side follow the image."""
        if "bird" in (self.actors[index].kind, self.actors[other].kind):
            return "near"
        side = "left" if index < other else "right"
        return f"to the {side} of" if abs(index - other) == 1 and self.chance(0.2) else self.often(words.BESIDE)

    def neighbour(self, index: int) -> int:
        near = [i for i in (index - 1, index + 1) if 0 <= i < len(self.actors)]
        return self.rng.choice(near)

    def deed(self) -> str:
        """A child and what it does."""
        text = f"{self.name(self.hero, 0.95, vague=True)} {self.acts(self.hero)}"
        return f"{text} {self.ground(self.hero)}" if self.chance(0.4) or len(text.split()) < _SHORTEST else text

    def whole(self) -> str:
        """A child, what it does, who is there or what the weather is like."""
        start = f"{self.name(self.hero)} {self.acts(self.hero)}"
        if len(self.actors) == 1 or self.chance(0.35):
            return f"{start} {self.ground(self.hero)} {self.weather()}"
        other = self.neighbour(self.hero)
        return f"{start} {self.beside(self.hero, other)} {self.name(other, 0.5)}"

    def sky(self) -> str:
        """The weather and a child."""
        name, doing = self.name(self.hero, 0.8, vague=True), self.doing(self.hero)
        if self.chance(0.4):
            return f"{self.often(words.CLAUSES[self.scene.weather])} and {name} is {doing}"
        return f"{name} is {doing} {self.weather()}"

    def place(self) -> str:
        """Where a child is."""
        name, ground = self.name(self.hero, 0.8, vague=True), self.ground(self.hero)
        if self.chance(0.3):
            return f"there is {name} {self.doing(self.hero)} {ground}"
        return f"{name} {self.acts(self.hero)} {ground}"

    def thing(self) -> str:
        """The thing behind, and who is near it."""
        noun = self.thing_name()
        if self.scene.seat is not None:
            return f"{self.name(self.scene.seat)} {self.acts(self.scene.seat)} on {noun}"
        if geometry.by_thing(self.scene, self.hero) and self.chance(0.75):
            return f"{self.name(self.hero)} {self.acts(self.hero)} {self.beside_thing(self.hero)} {noun}"
        where = "on the water" if self.scene.thing == "boat" else f"on the {self.scene.side}"
        where = self.rng.choice((where, "in the background"))
        if geometry.behind(self.scene, self.hero) and self.chance(0.5):
            return f"there is {noun} behind {self.name(self.hero, 0.5)}"
        if self.chance(0.4):
            return f"there is {noun} {where}"
        return f"{self.name(self.hero)} {self.acts(self.hero)} and there is {noun} {where}"

    def thing_name(self) -> str:
        return with_article(self.often(words.THINGS[str(self.scene.thing)], 0.6))

    def beside_thing(self, index: int) -> str:
        if geometry.close(self.scene, index) and self.chance(0.5):
            return "under" if self.scene.thing in geometry.ROOFS else "in front of"
        return self.often(words.BESIDE)

    def animal(self) -> str:
        """An animal, what it does, and where or by whom."""
        animal = self.rng.choice(self.animals)
        start = f"{self.name(animal)} {self.acts(animal)}"
        if self.actors[animal].kind != "bird" and abs(animal - self.hero) == 1 and self.chance(0.7):
            return f"{start} {self.beside(animal, self.hero)} {self.name(self.hero, 0.8)}"
        if geometry.by_thing(self.scene, animal) and self.chance(0.5):
            return f"{start} {self.beside_thing(animal)} {self.thing_name()}"
        return f"{start} {self.rng.choice((self.ground(animal), self.weather()))}"

    def company(self) -> str:
        """Two or three of those who are there."""
        if len(self.actors) == 3 and self.chance(0.4):
            return self.everyone()
        if len(self.children) == 2 and self.chance(0.6):
            return self.two()
        other = self.neighbour(self.hero)
        first, second = self.name(self.hero), self.name(other, 0.5)
        if self.actors[other].kind == "bird" or self.chance(0.3):
            return f"{first} is {self.doing(self.hero)} and {second} is {self.doing(other)}"
        if "bird" in (self.actors[self.hero].kind, self.actors[other].kind) or self.chance(0.5):
            return f"{first} {self.acts(self.hero)} {self.beside(self.hero, other)} {second}"
        return f"{first} and {second} are {self.often(words.PLACES[self.scene.place])}"

    def two(self) -> str:
        """Both children."""
        left, right = self.children
        kinds = sorted((self.actors[left].kind, self.actors[right].kind))
        both = self.often(words.PAIRS[kinds[0], kinds[1]])
        place = self.often(words.PLACES[self.scene.place])
        if self.actors[left].action != self.actors[right].action:
            return f"{both} are {self.often(('playing', 'together'))} {place}"
        return f"{both} are {self.doing(left)} {self.rng.choice((place, self.weather()))}"

    def everyone(self) -> str:
        """All three, from left to right."""
        names = [self.name(i, 0) for i in range(3)]
        if not any(actor.kind == "bird" for actor in self.actors) and self.chance(0.5):
            return f"{names[1]} {self.acts(1)} between {names[0]} and {names[2]}"
        return f"{names[0]}, {names[1]} and {names[2]} are {self.often(words.PLACES[self.scene.place])}"

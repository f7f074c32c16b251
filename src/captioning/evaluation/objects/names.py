"""Which words of a caption name an object, and of which kind: for data sets that say what is in their images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from captioning.data.datasets.scenes import words as grammar
from captioning.data.datasets.scenes.composition import PROPS, Actor
from captioning.data.text.tokenizer import tokenize
from captioning.evaluation.objects.coco_names import ANIMALS, COMPOUNDS, NAMES, OTHERS, YOUNG

Names = Mapping[tuple[str, ...], frozenset[str]]
"""The words of a name → the kinds of objects that it may mean; none where it only looks like a name (`train track`)."""

_IRREGULAR = {
    "child": "children",
    "person": "people",
    "goose": "geese",
    "human": "humans",
    "mouse": "mice",
    "foot": "feet",
    "tooth": "teeth",
    "ox": "oxen",
    "calf": "calves",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "scarf": "scarves",
    "shelf": "shelves",
    "wolf": "wolves",
    **{same: same for same in ("aircraft", "cattle", "deer", "fish", "people", "scissors", "sheep", "skis")},
}


class Mention(NamedTuple):
    """A name in a caption: the kinds that it may mean, and the words that it is, from `begin` up to `end`."""

    kinds: frozenset[str]
    begin: int
    end: int


def plural(noun: str) -> str:
    """The plural of an English noun; of several words, that of the last one changes."""
    rest, _, last = noun.rpartition(" ")
    return f"{rest} {_plural(last)}".lstrip()


def _plural(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("man"):
        return f"{word[:-3]}men"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{word}s"


def forms(name: str) -> tuple[str, ...]:
    """A name and its plural; once where both are the same."""
    return tuple(dict.fromkeys((name, plural(name))))


def of(dataset: str) -> Names | None:
    """The names of a data set's kinds of objects, and their plurals; None where they are not known.

    scenes: what the grammar calls them, where a kid may be a boy or a girl. COCO: `coco_names`.
    """
    if dataset == "scenes":
        return _table(_of_scenes())
    return _table(_of_coco()) if dataset in ("coco2014", "coco2017") else None


def _of_scenes() -> Iterator[tuple[str, Iterable[str]]]:
    for kind, names in {**grammar.NAMES, **grammar.THINGS}.items():
        yield from ((name.partition(" with ")[0], [kind]) for name in (*names, kind))
    children = [kind for kind in grammar.NAMES if Actor(kind, "", "").child]
    yield from ((name, children) for name in grammar.VAGUE)
    yield from ((noun, [noun]) for noun in PROPS.values())


def _of_coco() -> Iterator[tuple[str, Iterable[str]]]:
    for kind, synonyms in NAMES.items():
        yield from ((name, [kind]) for name in (kind, *synonyms))
    yield from OTHERS.items()
    yield from ((f"{young} {animal}", [animal]) for young in YOUNG for animal in ANIMALS)
    yield from ((name, []) for name in COMPOUNDS)


def _table(pairs: Iterable[tuple[str, Iterable[str]]]) -> Names:
    """Names with their kinds → those and their plurals, as tokens of captions."""
    table: dict[tuple[str, ...], frozenset[str]] = {}
    for name, kinds in pairs:
        for form in forms(name):
            phrase = tuple(tokenize(form))
            table[phrase] = table.get(phrase, frozenset()) | frozenset(kinds)
    return table


def mentions(words: Sequence[str], names: Names) -> list[Mention]:
    """The names in a caption, from left to right, the longest where several begin at one word."""
    longest = max(map(len, names))
    found, at = [], 0
    while at < len(words):
        ends = range(min(at + longest, len(words)), at, -1)
        end = next((end for end in ends if tuple(words[at:end]) in names), None)
        if end is not None and (kinds := names[tuple(words[at:end])]):
            found.append(Mention(kinds, at, end))
        at = end or at + 1
    return found

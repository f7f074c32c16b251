"""Objects that captions name and that are not in the image: CHAIR (Rohrbach et al. 2018)."""

from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeVar

from captioning.data.text.tokenizer import tokenize
from captioning.evaluation.objects.names import Names, mentions

Id = TypeVar("Id", bound=Hashable)


class Hallucination(NamedTuple):
    """Of many captions: how many, those that name an absent object, names of objects, and those of absent ones."""

    captions: int
    with_absent: int
    mentions: int
    absent: int

    def record(self) -> dict[str, Any]:
        """For JSON: chair_i is the share of mentions, chair_s that of captions; null where there is none."""
        return {
            "chair_i": self.absent / self.mentions if self.mentions else None,
            "chair_s": self.with_absent / self.captions if self.captions else None,
            "mentions": self.mentions,
        }


def score(captions: Mapping[Id, str], present: Mapping[Id, AbstractSet[str]], names: Names) -> Hallucination:
    """Compare what each caption, raw or tokenised, names with the kinds of objects in the image of the same id.

    A word that may mean one of several kinds is right if one of them is there. Each mention counts, repeated or not.
    """
    absent, total = [], 0
    for key, caption in captions.items():
        named = mentions(tokenize(caption), names)
        total += len(named)
        absent.append(sum(not one.kinds & present[key] for one in named))
    return Hallucination(len(absent), sum(count > 0 for count in absent), total, sum(absent))


def named(captions: Sequence[str], names: Names) -> frozenset[str]:
    """The kinds that any of an image's captions names, or may name."""
    return frozenset().union(*(one.kinds for caption in captions for one in mentions(tokenize(caption), names)))

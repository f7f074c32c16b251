"""What a model's scores are compared with: a floor that ignores the image, and a person.

Both are scored by the same code as the model, on the same references.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from captioning.metrics import References, score
from captioning.system import scripts

Id = TypeVar("Id", bound=Hashable)
_CANDIDATES = 50


def constant_caption(captions: Sequence[Sequence[str]], validation: References[Id], ids: Sequence[Id]) -> str:
    """The one training caption that scores best, by CIDEr, as the caption of every validation image.

    captions: tokenised training captions. Candidates are the captions whose word pairs are commonest in training.
    """
    pairs = Counter(pair for words in captions for pair in set(_pairs(words)))
    distinct = sorted(set(map(scripts.join, captions)))

    def commonness(caption: str) -> float:
        words = _pairs(scripts.split(caption))
        return sum(pairs[pair] for pair in words) / len(words)

    candidates = sorted(distinct, key=commonness, reverse=True)[:_CANDIDATES]

    def cider(caption: str) -> float:
        everywhere: dict[Id, str] = dict.fromkeys(ids, caption)
        return validation.score(everywhere).corpus["cider"]

    return max(candidates, key=cider)


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(["", *words], [*words, ""], strict=True))


def human_scores(references: Mapping[Id, Sequence[str]]) -> dict[str, float]:
    """Each person's captions against the others', averaged over the people.

    Image by image, reference k is taken out and scored against the rest; k runs over the references that every
    image has. The model is scored against all of them, which is a little easier.
    Empty when an image has a single reference: then there is nobody to compare with.
    """
    people = min(len(captions) for captions in references.values())
    if people < 2:
        return {}
    rows = []
    for k in range(people):
        rest = {name: [*captions[:k], *captions[k + 1 :]] for name, captions in references.items()}
        rows.append(score(rest, {name: captions[k] for name, captions in references.items()}).corpus)
    return {name: math.fsum(row[name] for row in rows) / people for name in rows[0]}


def oracle_cider(references: Mapping[Id, Sequence[str]], captions: Mapping[Id, Sequence[str]]) -> float:
    """Mean CIDEr where a judge who knows the references picks the best of each image's captions: a ceiling."""
    prepared = References(references)
    most = max(len(one) for one in captions.values())
    ranks = [
        prepared.score({name: one[min(rank, len(one) - 1)] for name, one in captions.items()}).per_image["cider"]
        for rank in range(most)
    ]
    return math.fsum(max(scores[name] for scores in ranks) for name in captions) / len(captions)

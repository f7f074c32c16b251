"""Objects that a caption must name, as nocaps chooses and counts them (Agrawal et al. 2019).

Constrained beam search then finds captions which name at least LEAST of at most MOST objects, in the singular or the
plural.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from captioning.data.objects.labels import Found
from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import Vocabulary
from captioning.evaluation.objects.grounding import overlaps
from captioning.evaluation.objects.names import forms
from captioning.settings.search import SearchOptions

MOST, LEAST = 3, 2  # objects that are asked for, and that must be named, of an image
SAME = 0.85  # IoU from which on two boxes are of one object
GENERAL = frozenset(
    (
        *("person", "man", "woman", "boy", "girl", "child", "people"),
        *("animal", "building", "clothing", "food", "furniture", "plant", "tree", "vehicle", "wheel"),
    )
)
"""Names that are not asked for: captions name people as they like, and the rest says little."""


def require(options: SearchOptions, found: Sequence[Found], vocabulary: Vocabulary) -> SearchOptions:
    """A search whose captions name what was found in an image; the same search where nothing can be asked for.

    The surest objects come first. A name that the vocabulary cannot spell is passed over.
    """
    groups = [group for one in distinct(found) if (group := _spelt(one.name, vocabulary))]
    asked = tuple(dict.fromkeys(groups))[:MOST]
    return replace(options, some_of=asked, least=min(LEAST, len(asked)))


def distinct(found: Sequence[Found]) -> Iterator[Found]:
    """The objects that may be asked for, surest first: without GENERAL ones, and the surer one of two at one place."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.score):
        others = np.array([other.box for other in kept]).reshape(-1, 4)
        if one.name not in GENERAL and not (overlaps(np.array([one.box]), others) >= SAME).any():
            kept.append(one)
            yield one


def _spelt(name: str, vocabulary: Vocabulary) -> tuple[tuple[int, ...], ...]:
    """The forms of a name that the vocabulary can spell, as ids."""
    ids = [tuple(vocabulary.encode(tokenize(form))) for form in forms(name)]
    return tuple(dict.fromkeys(phrase for phrase in ids if phrase and vocabulary.special.unk not in phrase))

"""Does a decoder look at an object when it names it? For models that read objects, where it is known which are there.

R regions of an image, T words of its caption.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from captioning.data.objects.labels import Found
from captioning.evaluation.attending import Attended
from captioning.evaluation.objects.names import Names, mentions

IOU = 0.5  # of a region and an object's box, from which on the region is the object's


class Grounding(NamedTuple):
    """Of many captions: nouns that name an object of the image, those at which the decoder looked at such an object.

    drawn: as `found`, as it would be expected if one of the image's regions were drawn at random at each of them.
    """

    nouns: int = 0
    found: int = 0
    drawn: float = 0.0

    def record(self) -> dict[str, Any]:
        """For JSON: the share of nouns, and that of random regions; null where there is no noun."""
        shares = {"share": self.found, "random_region": self.drawn}
        return {name: count / self.nouns if self.nouns else None for name, count in shares.items()} | {
            "nouns": self.nouns
        }


def score(looked: Iterable[tuple[Attended, Sequence[Found]]], names: Names) -> Grounding:
    """Over captions: where the decoder looked, and the true objects of its image, their boxes as its regions' are.

    A noun counts if an object of a kind that it may mean is there. Its region is the one with the greatest weight at
    the name's last word. It must overlap the box of such an object with an IoU of `IOU`; the first region, which is
    the whole image, never does.
    """
    counted = [_of_one(*one, names) for one in looked]
    return Grounding(
        sum(one.nouns for one in counted), sum(one.found for one in counted), math.fsum(one.drawn for one in counted)
    )


def _of_one(attended: Attended, objects: Sequence[Found], names: Names) -> Grounding:
    assert attended.boxes is not None
    found, drawn = [], []
    for mention in mentions(attended.words, names):
        true = np.array([one.box for one in objects if one.name in mention.kinds])  # (N, 4)
        if len(true):
            hits = np.asarray((overlaps(attended.boxes, true) >= IOU).any(1))  # (R,)
            hits[0] = False
            found.append(bool(hits[attended.weights[mention.end - 1].argmax()]))
            drawn.append(float(hits.mean()))
    return Grounding(len(found), sum(found), math.fsum(drawn))


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4), left, top, right, bottom: (N, M)."""
    begin = np.maximum(first[:, None, :2], second[:, :2])  # (N, M, 2)
    end = np.minimum(first[:, None, 2:], second[:, 2:])
    shared = (end - begin).clip(0).prod(2)
    one, other = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second))
    share: np.ndarray = shared / (one[:, None] + other - shared).clip(np.finfo(float).tiny)
    return share

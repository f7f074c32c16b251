"""Objects as networks read them: boxes as shares of what the encoder sees, and their names as ids of the vocabulary.

N images, R boxes, L tags.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from captioning.data.objects import tables
from captioning.data.objects.labels import Found
from captioning.data.objects.tables import BOXES, MOST, PUBLISHED
from captioning.data.text.tokenizer import tokenize
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError
from captioning.vision.features.places import StoredPlaces
from captioning.vision.features.store import FeatureStore
from captioning.vision.images import Box, Transform

TAGS = 29  # tokens of names that are kept, as in Oscar
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def seen(found: Sequence[Found], size: tuple[int, int], transform: Transform) -> list[Found]:
    """The objects that a transform leaves of an image, best first, at most MOST: boxes as shares of what it takes."""
    window = transform.seen(size)
    shares = [one._replace(box=_shares(one.box, window)) for one in found[:MOST]]
    return [one for one in shares if one.box[0] < one.box[2] and one.box[1] < one.box[3]]


def _shares(box: Box, window: Box) -> Box:
    """A box in pixels → in shares of a window, cut at its edges."""
    begin, length = window[:2], (window[2] - window[0], window[3] - window[1])
    left, top, right, bottom = (
        min(max((side - begin[axis % 2]) / length[axis % 2], 0.0), 1.0) for axis, side in enumerate(box)
    )
    return left, top, right, bottom


def place(images: Sequence[Sequence[Found]], vocabulary: Vocabulary, kind: str) -> StoredPlaces:
    """What `seen` returned of N images → arrays. The first box of each is the whole image, which has no name.

    R is that of the image with the most objects, and L that of the one with the longest names. Tokens of names are in a
    row, best first, at most TAGS: a name as often as there are such objects. A word that is not in the vocabulary is
    `<unk>`. kind: of the objects; `boxes` have no tags, and with a user's vectors the whole image is read only where
    there is no object, since nobody published a vector of it.
    """
    named = [[] if kind == BOXES else [one.name for one in found] for found in images]
    tags = [[token for name in names for token in vocabulary.encode(tokenize(name))][:TAGS] for names in named]
    boxes = [[_WHOLE, *(one.box for one in found)] for found in images]
    shape = len(images), max(map(len, boxes), default=1)
    made = StoredPlaces(
        np.zeros(shape, dtype=bool),
        np.zeros((*shape, 4), dtype=np.float32),
        np.full((len(images), max(map(len, tags), default=0)), vocabulary.special.pad, dtype=np.int64),
    )
    for row, (own, ids) in enumerate(zip(boxes, tags, strict=True)):
        made.mask[row, : len(own)] = True
        made.mask[row, 0] = kind != PUBLISHED or len(own) == 1
        made.boxes[row, : len(own)] = own
        made.tags[row, : len(ids)] = ids
    return made


def enter(store: FeatureStore, folder: Path, vocabulary: Vocabulary) -> FeatureStore:
    """The store, with the places of the objects in a folder.

    Raises UserError, naming both, where the store has vectors of other objects, and DamagedError as `of_folder` does.
    Pixels are of no objects.
    """
    here = tables.of_vectors(tables.read_card(folder))
    if store.pixels is None and store.objects != here:
        stored, wanted = tables.shown_identity(store.objects), tables.shown_identity(here)
        raise UserError(
            f"data/features has vectors of objects = {stored}, and {folder} has {wanted}; run `dvc repro -f features`"
        )
    store.places = of_folder(folder, store.ids, store.transform, vocabulary)
    return store


def of_folder(folder: Path, images: Sequence[str], transform: Transform, vocabulary: Vocabulary) -> StoredPlaces | None:
    """Where the objects of these images are, by the table in a folder; None where it says that there are none.

    Raises DamagedError where the table is not what was written.
    """
    kind = tables.read_card(folder)["kind"]
    if kind == tables.NONE:
        return None
    table = tables.Objects(folder)
    return place([seen(table.found[image], table.sizes[image], transform) for image in images], vocabulary, kind)

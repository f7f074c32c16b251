"""Leaks: images of one split that are in another too, by their bytes, by their looks or by their captions."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from captioning.data.card.fingerprints import RADIUS, Fingerprints, nearest
from captioning.data.splits.captions import SPLITS

COLUMNS = ("split", "image_id", "other_split", "other_id", "kind", "bits")
KINDS = {"bytes": "the same file", "look": "looks alike", "captions": "the same captions"}
PAIRS = [(later, earlier) for earlier, later in combinations(SPLITS, 2)]
_NAMED = 3  # of the pairs of one kind, so many are printed

_Match = tuple[int, int, int]  # row, row of the other image, bits


def find(table: pd.DataFrame, images: pd.DataFrame, fingerprints: Fingerprints) -> pd.DataFrame:
    """Each image that an earlier split (of train, val, test) has too, in the order of `PAIRS`, `KINDS` and `images`.

    table: image_id and words, a row a caption. images: image_id and split, a row an image, as `fingerprints` has them.
    Returns `COLUMNS`: the image, the one it was found to be, and how. `bytes`: the files are the same. `look`: they are
    not, but of the two images' hashes at most `RADIUS` bits differ, and `bits` says how many. `captions`: the two
    have the same set of captions, compared by their words. Of several such images, the first or the most alike.
    """
    captions = _caption_sets(table, images)
    members = {split: np.flatnonzero(images["split"] == split) for split in SPLITS}
    names = images["image_id"].tolist()
    rows = []
    for later, earlier in PAIRS:
        here, there = members[later], members[earlier]
        same = list(_equal(fingerprints.digest, here, there))
        matches = {
            "bytes": same,
            "look": _alike(fingerprints, np.setdiff1d(here, [row for row, *_ in same]), there),
            "captions": _equal(captions, here, there),
        }
        for kind in KINDS:
            rows += [(later, names[row], earlier, names[other], kind, bits) for row, other, bits in matches[kind]]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _caption_sets(table: pd.DataFrame, images: pd.DataFrame) -> list[bytes]:
    """Of each image, its captions without order and repetition; eight bytes of a digest stand for a caption."""
    digests = b"".join(hashlib.sha256(" ".join(words).encode()).digest()[:8] for words in table["words"])
    image = pd.Index(images["image_id"]).get_indexer(table["image_id"])
    captions = np.unique(np.stack([image, np.frombuffer(digests, "<i8")], axis=1), axis=0)
    return [part.tobytes() for part in np.split(captions[:, 1], np.flatnonzero(np.diff(captions[:, 0])) + 1)]


def _equal(keys: Sequence[bytes], here: np.ndarray, there: np.ndarray) -> Iterator[_Match]:
    first = {keys[row]: row for row in reversed(there.tolist())}
    for row in here.tolist():
        if keys[row] in first:
            yield row, first[keys[row]], 0


def _alike(fingerprints: Fingerprints, here: np.ndarray, there: np.ndarray) -> Iterator[_Match]:
    here, there = here[~fingerprints.plain[here]], there[~fingerprints.plain[there]]
    others, bits = nearest(fingerprints.bits[here], fingerprints.bits[there])
    for row, other, distance in zip(here.tolist(), others.tolist(), bits.tolist(), strict=True):
        if other >= 0:
            yield row, int(there[other]), distance


def describe(leaks: pd.DataFrame, fingerprints: Fingerprints) -> dict[str, Any]:
    """For JSON: how many images of a split are in another, by kind, with examples, and what was compared."""
    groups = leaks.groupby(["split", "other_split", "kind"])
    counts = groups.size().to_dict()
    return {
        "compared": len(fingerprints.digest),
        "too_plain": int(fingerprints.plain.sum()),
        "radius": RADIUS,
        "examples": groups.head(_NAMED).to_dict("records"),
        **{
            f"{later}_in_{earlier}": {kind: int(counts.get((later, earlier, kind), 0)) for kind in KINDS}
            for later, earlier in PAIRS
        },
    }


def report(leaks: pd.DataFrame, images: pd.DataFrame, fingerprints: Fingerprints) -> list[str]:
    """Lines for a person: what was found, the first few pairs of each kind, and what to do."""
    sizes = images["split"].value_counts()
    plain = int(fingerprints.plain.sum())
    if leaks.empty:
        doubt = f", {plain:,} of them too plain to compare their looks" if plain else ""
        return [f"no image of a split is in another, by file, looks or captions ({len(images):,} compared{doubt})"]
    lines = []
    for _, group in leaks.groupby(["split", "other_split", "kind"], sort=False):
        later, earlier, kind = group.iloc[0][["split", "other_split", "kind"]]
        pairs = zip(group["image_id"].head(_NAMED), group["other_id"].head(_NAMED), strict=True)
        named = ", ".join(f"{image} = {other}" for image, other in pairs) + (", ..." if len(group) > _NAMED else "")
        lines.append(f"{len(group)} of {sizes[later]} {later} images are in {earlier} too, {KINDS[kind]}: {named}")
    return [
        *lines,
        "scores on these images are inflated; data/split/leaks.csv lists them: remove one image of each pair",
    ]

"""The table of objects of a run: what the stage `objects` leaves in its folder, and what later stages read of it.

objects.json    what it is: its kind, its source, scores; digests of the other files. With `none`, this is all
label.tsv       objects of each image, best first, at most MOST, in pixels of the image (`labels`)
hw.tsv          sizes of the images
classes.txt     all names, sorted
vectors.npy     with published vectors: see `published_vectors`
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from captioning.data.objects.labels import Found, Sizes, read_labels, read_sizes, write_labels, write_sizes
from captioning.system.errors import UserError, shown
from captioning.system.files import digest, write_text
from captioning.system.sealed import DamagedError, read_document, write_document

if TYPE_CHECKING:
    import pandas as pd

MOST = 36  # objects of an image that are kept
NONE, BOXES, PUBLISHED = "none", "boxes", "published"  # kinds: no objects; no names of them; with a user's vectors
WORDS = {"kind": "words", "source": "words of the training captions"}  # the identity of tags that have no boxes
NEIGHBOURS = {"kind": "neighbours", "source": "captions of the nearest training images"}
PREDICTED = (WORDS, NEIGHBOURS)  # from the encoder's output alone: nothing has a box, and nothing is given of an image
_DIGESTS = ("weights", "vectors", "table")  # of an identity
_NAMED = 5  # of many names, so many are given
CARD, LABELS, SIZES, CLASSES, VECTORS = "objects.json", "label.tsv", "hw.tsv", "classes.txt", "vectors.npy"
FILES = (LABELS, SIZES, CLASSES, VECTORS)
AGAIN = "run `dvc repro -f objects`"


def of_images(
    labels: Mapping[str, list[Found]], images: "pd.DataFrame", sizes: Sizes, location: str
) -> dict[str, list[Found]]:
    """Image id → objects, from a table whose keys are image ids, or names of files without suffix.

    Boxes are cut at the edges of their image. Raises UserError, with `location`, where an image has no row, or a box is
    outside of its image.
    """
    named: Iterable[tuple[str, str]] = zip(images["image_id"], images["file"], strict=True)
    keys = {image: key_of(image, file, labels) for image, file in named}
    missing = [image for image, key in keys.items() if key is None]
    if missing:
        raise UserError(
            f"{location}: no row of {len(missing)} of {len(keys)} images: {_some(missing)}; "
            "the key is the image's name without suffix"
        )
    return {
        image: [inside(one, sizes[image], f"{location}, {key}") for one in labels[key]]
        for image, key in keys.items()
        if key is not None
    }


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(shown, names[:_NAMED])) + more


def key_of(image_id: str, file: str, labels: Mapping[str, list[Found]]) -> str | None:
    """The key of an image in a table: its id, or the name of its file without suffix; None where there is none."""
    return next((key for key in (image_id, PurePosixPath(file).stem) if key in labels), None)


def inside(one: Found, size: tuple[int, int], location: str) -> Found:
    """An object, cut at the edges of an image of `size`. Raises UserError where nothing is left of its box."""
    left, top, right, bottom = (min(max(side, 0.0), float(size[axis % 2])) for axis, side in enumerate(one.box))
    if not (left < right and top < bottom):
        raise UserError(
            f"{location}: the rect {[round(side, 1) for side in one.box]} of {one.name} is outside of the image, which "
            f"has {size[0]} × {size[1]} pixels; rects are in pixels of the image"
        )
    return one._replace(box=(left, top, right, bottom))


def write(
    folder: Path, objects: Mapping[str, Sequence[Found]], sizes: Sizes, card: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the table of objects into a folder that is there; return its card, which has what `card` says."""
    kept = {image: sorted(found, key=lambda one: -one.score)[:MOST] for image, found in objects.items()}
    names = sorted({one.name for found in kept.values() for one in found})
    write_labels(folder / LABELS, kept)
    write_sizes(folder / SIZES, sizes)
    write_text(folder / CLASSES, "".join(f"{name}\n" for name in names))
    counts = [len(found) for found in kept.values()]
    whole = {
        **card,
        "classes": len(names),
        "images": len(counts),
        "objects_per_image": round(sum(counts) / max(len(counts), 1), 4),
        "without": sum(count == 0 for count in counts),
        "files": {path.name: digest(path) for name in FILES if (path := folder / name).is_file()},
    }
    write_document(folder / CARD, whole)
    return whole


def write_none(folder: Path) -> None:
    """Write that there are no objects: always the same bytes."""
    write_document(folder / CARD, {"kind": NONE})


class Objects:
    """The table in a folder, read: `card`, `classes`, and the objects and the size of each image by image id."""

    def __init__(self, folder: Path) -> None:
        """Raises DamagedError where a file is not what was written."""
        self.card = read_card(folder)
        for name, expected in self.card["files"].items():
            if not (folder / name).is_file() or digest(folder / name) != expected:
                raise DamagedError(f"{folder / name}: not the file that {CARD} describes; {AGAIN}")
        self.found, self.sizes = read_labels(folder / LABELS), read_sizes(folder / SIZES)
        self.classes: tuple[str, ...] = tuple((folder / CLASSES).read_text(encoding="utf-8").splitlines())


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a folder. Raises DamagedError where it is not what was written."""
    return read_document(folder / CARD, AGAIN)


def identity(card: Mapping[str, Any]) -> dict[str, str]:
    """What tells one kind of objects from another: the kind and its source, with a digest of the weights of a network,
    or of the user's vectors.

    Vectors of objects mean the same where this is the same. Empty for none.
    """
    if card["kind"] == NONE:
        return {}
    digests = {name: card["source"][name] for name in ("weights", "vectors") if name in card["source"]}
    return {"kind": card["kind"], "source": card["source"]["name"], **digests}


def of_vectors(card: Mapping[str, Any]) -> dict[str, str]:
    """What a store of vectors records of their objects: what `identity` says, and the digest of their table."""
    return identity(card) | ({} if card["kind"] == NONE else {"table": card["files"][LABELS]})


def shown_identity(one: Mapping[str, str]) -> str:
    """An identity in words, with the digests that it has."""
    if not one:
        return NONE
    digits = [f", {name} {one[name][:12]}" for name in _DIGESTS if name in one]
    return f"{one['kind']} ({one['source']}{''.join(digits)})"


def merged(tables: Iterable[tuple[Path, Mapping[str, list[Found]]]]) -> dict[str, list[Found]]:
    """The rows of several files. Raises UserError where a key is in two."""
    whole: dict[str, list[Found]] = {}
    for path, labels in tables:
        twice = sorted(whole.keys() & labels.keys())
        if twice:
            raise UserError(f"{path}: {_some(twice)} is in another file too; remove one of its rows")
        whole |= labels
    return whole

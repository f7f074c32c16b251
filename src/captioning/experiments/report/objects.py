"""Which objects an experiment's model read of an image, for the image's card: their names, and where they are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from captioning.experiments import recorded
from captioning.experiments.compare import PER_IMAGE, Experiment
from captioning.experiments.outside import CaptionFile
from captioning.experiments.revisions import Revision

FOLDER = "data/objects"
LABELS, SIZES = f"{FOLDER}/label.tsv", f"{FOLDER}/hw.tsv"
_T = TypeVar("_T")
_Box = tuple[float, float, float, float]
_Object = TypedDict("_Object", {"class": str, "rect": _Box})


class _Size(TypedDict):
    height: int
    width: int


_OBJECTS = TypeAdapter(list[_Object])
_SIZE = TypeAdapter(Annotated[list[_Size], Field(min_length=1, max_length=1)])


def read(experiment: Experiment, selected: Sequence[int]) -> dict[int, dict[str, Any]]:
    """By COCO id, of these images; none where the experiment's model reads no objects.

    `names`: surest first, as `dog, 2 × ball`. `boxes`: a name, then left, top, right and bottom, in pixels of an image
    whose width and height are `size`. Raises UserError, with the file, where a table has no row of an image.
    """
    revision = experiment.revision
    if isinstance(revision, CaptionFile) or LABELS not in revision.names(FOLDER):
        return {}
    table = recorded.rows(revision, PER_IMAGE, ",", "image_id", "coco_id")
    ids = recorded.ids(revision, PER_IMAGE, table, "coco_id")
    keys = {image: row["image_id"] for image, row in zip(ids, table, strict=True) if image in set(selected)}
    objects, sizes = (_rows(revision, path, keys, shape) for path, shape in ((LABELS, _OBJECTS), (SIZES, _SIZE)))
    return {image: _drawn(objects[image], sizes[image][0]) for image in keys}


def _rows(revision: Revision, path: str, keys: Mapping[int, str], shape: TypeAdapter[_T]) -> dict[int, _T]:
    """The rows of a table for these images."""
    lines = revision.read(path).decode(errors="replace").split("\n")
    listed = {key: row for key, _, row in (line.partition("\t") for line in lines)}
    missing = [key for key in keys.values() if key not in listed]
    if missing:
        raise recorded.damaged(revision, path, f"it has no row of {missing[0]}")
    return {image: recorded.parse(revision, path, listed[key].encode(), shape) for image, key in keys.items()}


def _drawn(objects: Sequence[_Object], size: _Size) -> dict[str, Any]:
    return {
        "names": _counted([one["class"] for one in objects]),
        "boxes": [[one["class"], *one["rect"]] for one in objects],
        "size": [size["width"], size["height"]],
    }


def _counted(names: Sequence[str]) -> str:
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in Counter(names).items()) or "none"

"""COCO's instances (Lin et al. 2014): the boxes that people drew, from the archive of the annotations."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from captioning.data.objects.labels import Found
from captioning.system.archives import Archive
from captioning.system.documents import REMEDY, parse_json
from captioning.system.errors import UserError

_Side = Annotated[int, Field(ge=1)]
_Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Truth(NamedTuple):
    """What is in an image: objects, and crowds of them, where a detection counts neither for nor against."""

    objects: list[Found]
    crowds: list[Found]


class _Image(TypedDict):
    id: int
    width: _Side
    height: _Side


class _Annotation(TypedDict):
    image_id: int
    category_id: int
    bbox: tuple[FiniteFloat, FiniteFloat, _Length, _Length]
    iscrowd: Annotated[int, Field(ge=0, le=1)]


class _Category(TypedDict):
    id: int
    name: str


class _Document(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_SHAPE = TypeAdapter(_Document)


def read_instances(path: Path, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Truth]:
    """Image id → what is in each image of `sizes` (width, height), from `annotations_trainval….zip`.

    Boxes are in pixels of these sizes: an image may have been made smaller than it was published. A box without area
    is left out. Raises UserError, with the member at fault, when none is there or one is malformed.
    """
    found: dict[str, Truth] = {}
    with Archive(path) as archive:
        members = [name for name in archive.names() if name.rpartition("/")[2].startswith("instances_")]
        for member in members:
            location = f"{path}/{member}"
            found |= _read(parse_json(archive.read(member), location, _SHAPE), location, sizes)
    if not members:
        raise UserError(f"{path}: it has no file instances_….json; {REMEDY}")
    return found


def _read(document: _Document, location: str, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Truth]:
    names = {category["id"]: category["name"] for category in document["categories"]}
    drawn: dict[int, list[_Annotation]] = defaultdict(list)
    for annotation in document["annotations"]:
        if annotation["category_id"] not in names:
            raise UserError(f"{location}: category {annotation['category_id']} is not listed; {REMEDY}")
        drawn[annotation["image_id"]].append(annotation)
    wanted = [image for image in document["images"] if str(image["id"]) in sizes]
    return {str(image["id"]): _truth(drawn[image["id"]], names, image, sizes[str(image["id"])]) for image in wanted}


def _truth(drawn: list[_Annotation], names: Mapping[int, str], image: _Image, size: tuple[int, int]) -> Truth:
    across, down = size[0] / image["width"], size[1] / image["height"]
    truth = Truth([], [])
    for annotation in drawn:
        x, y, width, height = annotation["bbox"]
        if width and height:
            box = (x * across, y * down, (x + width) * across, (y + height) * down)
            truth[annotation["iscrowd"]].append(Found(names[annotation["category_id"]], 1.0, box))
    return truth

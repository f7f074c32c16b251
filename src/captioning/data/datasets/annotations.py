"""COCO's official captions (Chen et al. 2015), and a split with a test set out of them.

The captions of COCO's test images were never published. So the official validation images are the test set here, and
a piece of the official training images is what models are chosen on.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pycocotools.coco import COCO
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from captioning.data.datasets.base import Prepared
from captioning.data.datasets.published import (
    REMEDY,
    Photograph,
    Workspace,
    differences,
    parse_json,
    refuse_twice,
    tabulate,
)
from captioning.data.splits import coco
from captioning.system.archives import Archive
from captioning.system.errors import UserError

HELD_OUT = 5000  # official training images to choose on; a tenth of them where that is fewer
Counts = dict[str, tuple[int, int]]  # part of the data set → images, captions


class _Image(TypedDict):
    id: int
    file_name: str


class _Annotation(TypedDict):
    id: int
    image_id: int
    caption: str


class _Document(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]


_SHAPE = TypeAdapter(_Document)


def assemble(space: Workspace, year: int, published: dict[str, str], expected: Counts) -> Prepared:
    """Bring one year's archives into the workspace and make the table of its official captions.

    published: URL → digest of the annotations, then of the training and of the validation pictures.
    """
    (url, digest), *archives = published.items()
    annotations = space.fetch(url, digest)
    photographs, found = read(space.folder / annotations.name, year)
    files = [annotations, *(space.pictures(url, digest) for url, digest in archives)]
    table, notes = tabulate(photographs, space.folder, str(space.folder / annotations.name))
    held_out = sum(photograph.split == "val" for photograph in photographs)
    said = f"val is {held_out} images of train{year}, chosen by a hash of their numbers; test is val{year}"
    return Prepared(table, files, [said, *differences(found, expected), *notes])


def read(path: Path, year: int) -> tuple[list[Photograph], Counts]:
    """The photographs of an archive `annotations_trainval{year}.zip`, and how many images and captions each part has.

    Raises UserError, with the member at fault, when one is missing, not JSON, of another shape, lists an image twice,
    or has a caption of an image that it does not list.
    """
    photographs: list[Photograph] = []
    found: Counts = {}
    with Archive(path) as archive:
        for part in (f"train{year}", f"val{year}"):
            index = _index(archive, f"annotations/captions_{part}.json")
            found[part] = (len(index.imgs), len(index.anns))
            chosen = held_out(index.imgs) if part.startswith("train") else ()
            other = "train" if part.startswith("train") else "test"
            photographs += (
                Photograph(
                    str(number),
                    f"{part}.zip",
                    image["file_name"],
                    "val" if number in chosen else other,
                    [annotation["caption"] for annotation in index.imgToAnns.get(number, ())],
                )
                for number, image in index.imgs.items()
            )
    return photographs, found


def held_out(images: Iterable[int]) -> frozenset[int]:
    """The official training images that are the validation set here: the same ones in whatever order they come.

    Those whose numbers have the smallest SHA-256: `HELD_OUT` of them, or a tenth of the images, rounded up.
    """
    drawn = sorted(images, key=lambda number: hashlib.sha256(str(number).encode()).digest())
    return frozenset(drawn[: min(HELD_OUT, -(-len(drawn) // 10))])


def _index(archive: Archive, member: str) -> COCO:
    """pycocotools' index of an annotation file, which it would make without complaint of a faulty one."""
    place = f"{archive.path}/{member}"
    document = parse_json(archive.read(member), place, _SHAPE)
    refuse_twice([str(image["id"]) for image in document["images"]], f"{place}: image")
    refuse_twice([str(annotation["id"]) for annotation in document["annotations"]], f"{place}: annotation")
    listed = {image["id"] for image in document["images"]}
    for annotation in document["annotations"]:
        if annotation["image_id"] not in listed:
            raise UserError(
                f"{place}: annotation {annotation['id']} is of image {annotation['image_id']}, which it does not list; "
                f"{REMEDY}"
            )
    return coco.index(document)

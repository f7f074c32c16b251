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

from captioning.data.datasets.base import Prepared, one_line
from captioning.data.datasets.published import Photograph, Workspace, differences, refuse_twice, tabulate
from captioning.data.splits import coco
from captioning.system.archives import Archive
from captioning.system.documents import REMEDY, parse_json
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

    published: URL → digest of the annotations, then of the training and of the validation images.
    """
    (url, digest), *archives = published.items()
    annotations = space.fetch(url, digest)
    photographs, counts = read(space.folder / annotations.name, year)
    files = [annotations, *(space.images(url, digest) for url, digest in archives)]
    table, notes = tabulate(photographs, space.folder, str(space.folder / annotations.name))
    held_out = sum(photograph.split == "val" for photograph in photographs)
    note = f"val is {held_out} images of train{year}, chosen by a hash of their numbers; test is val{year}"
    return Prepared(table, files, [note, *differences(counts, expected), *notes])


def read(path: Path, year: int) -> tuple[list[Photograph], Counts]:
    """The photographs of an archive `annotations_trainval{year}.zip`, and how many images and captions each part has.

    Raises UserError, with the member at fault, when one is missing, not JSON, of another shape, lists an image twice,
    or has a caption of an image that it does not list.
    """
    photographs: list[Photograph] = []
    counts: Counts = {}
    with Archive(path) as archive:
        for part in (f"train{year}", f"val{year}"):
            index = _index(archive, f"annotations/captions_{part}.json")
            counts[part] = (len(index.imgs), len(index.anns))
            held_out_ids = held_out(index.imgs) if part.startswith("train") else ()
            other = "train" if part.startswith("train") else "test"
            photographs += (
                Photograph(
                    str(number),
                    f"{part}.zip",
                    image["file_name"],
                    "val" if number in held_out_ids else other,
                    [annotation["caption"] for annotation in index.imgToAnns.get(number, ())],
                )
                for number, image in index.imgs.items()
            )
    return photographs, counts


def held_out(images: Iterable[int]) -> frozenset[int]:
    """The official training images that are the validation set here: the same ones in whatever order they come.

    Those whose numbers have the smallest SHA-256: `HELD_OUT` of them, or a tenth of the images, rounded up.
    """
    drawn = sorted(images, key=lambda number: hashlib.sha256(str(number).encode()).digest())
    return frozenset(drawn[: min(HELD_OUT, -(-len(drawn) // 10))])


def _index(archive: Archive, member: str) -> COCO:
    """pycocotools' index of an annotation file, which it would make without complaint of a faulty one."""
    location = f"{archive.path}/{member}"
    document = parse_json(archive.read(member), location, _SHAPE)
    refuse_twice([str(image["id"]) for image in document["images"]], f"{location}: image")
    refuse_twice([str(annotation["id"]) for annotation in document["annotations"]], f"{location}: annotation")
    listed = {image["id"] for image in document["images"]}
    for annotation in document["annotations"]:
        if annotation["image_id"] not in listed:
            raise UserError(
                f"{location}: annotation {annotation['id']} is of image {annotation['image_id']}, "
                f"which it does not list; {REMEDY}"
            )
        one_line(f"{location}, annotation {annotation['id']}", annotation["caption"])
    return coco.index(document)

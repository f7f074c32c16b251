"""objects: what is in each image, and where → data/objects/.

With `objects: none` it leaves a file that never changes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from captioning.data.objects import given, scores, tables, truth
from captioning.data.objects.labels import Found, Sizes
from captioning.data.splits.images import read_images
from captioning.settings.objects import NONE
from captioning.settings.resolve import source
from captioning.settings.schema import Settings
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, digest
from captioning.vision.images import size_of

DATA = Path("data/download")
IMAGES = Path("data/split/images.csv")
OUT = Path("data/objects")
SCORED = ("val", "test")  # splits whose objects are compared with the truth


class Wanted(NamedTuple):
    """What the settings ask for."""

    kind: str
    dataset: str
    source: Path | None


class Table(NamedTuple):
    """Objects of each image, all of them, and where they are from. true: they are the truth, and have no score."""

    objects: dict[str, list[Found]]
    source: dict[str, str]
    true: bool


def main(settings: Settings) -> None:
    wanted = Wanted(settings.objects, settings.dataset, source(settings.download.source))
    with atomic(OUT) as folder:
        folder.mkdir()
        if wanted.kind == NONE:
            tables.write_none(folder)
            return
        card = _write(wanted, folder)
    found = f"{card['objects_per_image']} objects an image, {card['classes']} classes, none in {card['without']} images"
    print(f"objects = {wanted.kind}, {card['source']['name']}: {found}")
    for split, score in card["scores"].items():
        print(f"{split}: AP {score['ap']}, AP50 {score['ap50']}")


def _write(wanted: Wanted, folder: Path) -> dict[str, Any]:
    images = read_images(IMAGES)
    with ImageArchives(DATA) as files:
        named: Iterable[tuple[str, str]] = zip(images["image_id"], images["file"], strict=True)
        sizes = {image: size_of(files.read(file), file) for image, file in named}
    known = truth.of(wanted.dataset, DATA)
    table = _labels(wanted, known, images, sizes)
    scored = {} if table.true or known is None else _scores(table, known, images, sizes)
    return tables.write(folder, table.objects, sizes, {"kind": wanted.kind, "source": table.source, "scores": scored})


def _labels(wanted: Wanted, known: truth.Source | None, images: pd.DataFrame, sizes: Sizes) -> Table:
    """The user's table where there is one, else what the data set says."""
    paths = given.files(wanted.source, wanted.dataset)
    if paths:
        location = ", ".join(map(str, paths))
        objects = tables.of_images(given.read(paths), images, sizes, location)
        return Table(objects, _source(paths[0].name, paths), true=False)
    if known is None:
        raise given.missing(wanted.source, wanted.dataset)
    true = {image: one.objects for image, one in known.read(sizes).items()}
    objects = tables.of_images(true, images, sizes, str(known.file))
    return Table(objects, _source(known.name, [known.file]), true=True)


def _source(name: str, paths: list[Path]) -> dict[str, str]:
    return {"name": name, **{path.name: digest(path) for path in paths}}


def _scores(table: Table, known: truth.Source, images: pd.DataFrame, sizes: Sizes) -> dict[str, dict[str, float]]:
    """Average precision in each split that has no part in training."""
    true = known.read(sizes)
    parts = {split: images[images["split"] == split]["image_id"] for split in SCORED}
    return {
        split: scores.average_precision(table.objects, {image: true[image] for image in part if image in true})
        for split, part in parts.items()
    }

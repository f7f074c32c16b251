"""objects: what is in each image, and where → data/objects/.

With `objects: none` it leaves a file that never changes, and so it does with `words`: the stage `train` finds those.
Torch is loaded where a detector is trained, and only there.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from captioning.data.objects import given, scores, tables, truth
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found, Sizes
from captioning.data.splits.images import read_images
from captioning.settings.objects import NONE, TRAINED, WORDS
from captioning.settings.resolve import source
from captioning.settings.schema import Compute, Settings
from captioning.system import compute
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, digest, run_key
from captioning.vision.images import size_of
from stages import code

DATA = Path("data/download")
IMAGES = Path("data/split/images.csv")
OUT = Path("data/objects")
SCORED = ("val", "test")  # splits whose objects are compared with the truth


class Wanted(NamedTuple):
    """What the settings ask for."""

    kind: str
    dataset: str
    source: Path | None
    seed: int
    compute: Compute


class Table(NamedTuple):
    """Objects of each image, where they are from, and their scores by split; none where they are the truth."""

    objects: dict[str, list[Found]]
    source: dict[str, str]
    scores: dict[str, dict[str, float]]


def main(settings: Settings) -> None:
    searched = source(settings.download.source)
    wanted = Wanted(settings.objects, settings.dataset, searched, settings.seed, settings.compute)
    with atomic(OUT) as folder:
        folder.mkdir()
        if wanted.kind in (NONE, WORDS):
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
    table = (
        _trained(wanted, known, images, sizes, folder)
        if wanted.kind == TRAINED
        else _labels(wanted, known, images, sizes)
    )
    card = {"kind": wanted.kind, "source": table.source, "scores": table.scores}
    return tables.write(folder, table.objects, sizes, card)


def _labels(wanted: Wanted, known: truth.Source | None, images: pd.DataFrame, sizes: Sizes) -> Table:
    """The user's table where there is one, else what the data set says."""
    paths = given.files(wanted.source, wanted.dataset)
    if paths:
        location = ", ".join(map(str, paths))
        objects = tables.of_images(given.read(paths), images, sizes, location)
        compared = {} if known is None else _scores(objects, known.read(sizes), images)
        return Table(objects, _source(paths[0].name, paths), compared)
    if known is None:
        raise given.missing(wanted.source, wanted.dataset)
    true = {image: one.objects for image, one in known.read(sizes).items()}
    objects = tables.of_images(true, images, sizes, str(known.file))
    return Table(objects, _source(known.name, [known.file]), {})


def _source(name: str, paths: list[Path]) -> dict[str, str]:
    return {"name": name, **{path.name: digest(path) for path in paths}}


def _scores(
    objects: Mapping[str, list[Found]], true: Mapping[str, Truth], images: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Average precision in each split that has no part in training."""
    parts = {split: images[images["split"] == split]["image_id"] for split in SCORED}
    return {
        split: scores.average_precision(objects, {image: true[image] for image in part if image in true})
        for split, part in parts.items()
    }


def _trained(wanted: Wanted, known: truth.Source | None, images: pd.DataFrame, sizes: Sizes, folder: Path) -> Table:
    """What a detector finds in all images that is trained on the truth of the training images; `folder` gets it."""
    from captioning.data.detection import detecting
    from captioning.data.objects import detectors
    from captioning.system.checkpoints import Checkpoint

    if known is None:
        raise given.untrainable(wanted.dataset)
    machine, true = wanted.compute, known.read(sizes)
    started = compute.start(
        seed=wanted.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    with ImageArchives(DATA) as files:
        examples = detecting.Examples(images, sizes, true, files)
        checkpoint = Checkpoint(
            _key(wanted, started.device.type, [known.file, *files.archives(images["file"])]), "objects"
        )
        trained = detecting.train(examples, wanted.seed, started.device, checkpoint)
        detector = detectors.write(
            folder, trained.network, {"truth": known.name, "dataset": wanted.dataset, **trained.card}
        )
        found = detecting.find(detector, examples, started.device, SCORED)
    checkpoint.clear()
    surest = {image: [one for one in listed if one.score >= detectors.SURE] for image, listed in found.items()}
    name = f"a detector trained on {known.name}"
    return Table(surest, {"name": name, "weights": detector.weights}, _scores(found, true, images))


def _key(wanted: Wanted, device: str, read: list[Path]) -> str:
    """A key of all that the weights depend on. read: the images and what the data set says of them."""
    machine = wanted.compute.model_dump(exclude={"processes"})
    settings = {"seed": wanted.seed, "dataset": wanted.dataset, "compute": machine, **compute.software(device)}
    return run_key(settings, [IMAGES, *read], code("objects"))

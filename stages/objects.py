"""objects: what is in each image, and where → data/objects/.

With `objects: none` it leaves a file that never changes, and so it does with `words`: the stage `train` finds those.
Torch is loaded where there is a detector, and only there.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from captioning.data.network.downloads import fetch_weights
from captioning.data.objects import given, published_vectors, scores, tables, truth
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found, Sizes
from captioning.data.splits.images import read_images
from captioning.settings.objects import BOX_HEAD, BOXES, LABELS, NONE, OWN, PREDICTED, TRAINED
from captioning.settings.resolve import source
from captioning.settings.schema import Compute, Settings
from captioning.system import compute
from captioning.system.archives import ImageArchives
from captioning.system.files import atomic, digest, run_key, scratch
from captioning.vision.images import size_of
from stages import code

if TYPE_CHECKING:
    from torch import device as Device

    from captioning.data.detection.detecting import Examples
    from captioning.data.objects.detectors import ObjectDetector

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


class Ready(NamedTuple):
    """A detector, its name for people, and what is done in the end with the folder of what it has found."""

    detector: "ObjectDetector"
    name: str
    end: Callable[[Path], object]


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
        if wanted.kind in (NONE, *PREDICTED):
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
        _labels(wanted, known, images, sizes, folder)
        if wanted.kind in (LABELS, BOXES)
        else _by_detector(wanted, known, images, sizes, folder)
    )
    kind = tables.PUBLISHED if "vectors" in table.source else wanted.kind
    card = {"kind": kind, "source": table.source, "scores": table.scores}
    return tables.write(folder, table.objects, sizes, card)


def _labels(wanted: Wanted, known: truth.Source | None, images: pd.DataFrame, sizes: Sizes, folder: Path) -> Table:
    """The user's table where there is one, else what the data set says; `folder` gets vectors, if these are beside."""
    paths = given.files(wanted.source, wanted.dataset)
    published_vectors.check_labelled(wanted.kind, given.vectors(wanted.source, wanted.dataset), paths)
    if paths:
        location = ", ".join(map(str, paths))
        objects = tables.of_images(given.read(paths), images, sizes, location)
        compared = {} if known is None else _scores(objects, known.read(sizes), images)
        return Table(objects, _source(paths[0].name, paths) | _vectors(wanted, paths, images, sizes, folder), compared)
    if known is None:
        raise given.missing(wanted.source, wanted.dataset)
    true = {image: one.objects for image, one in known.read(sizes).items()}
    objects = tables.of_images(true, images, sizes, str(known.file))
    return Table(objects, _source(known.name, [known.file]), {})


def _vectors(wanted: Wanted, labels: list[Path], images: pd.DataFrame, sizes: Sizes, folder: Path) -> dict[str, str]:
    """What the card's source says of the user's vectors, which `folder` gets; nothing where there are none."""
    paths = given.vectors(wanted.source, wanted.dataset)
    return published_vectors.write(folder, paths, labels, images, sizes) if paths else {}


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


def _by_detector(wanted: Wanted, known: truth.Source | None, images: pd.DataFrame, sizes: Sizes, folder: Path) -> Table:
    """What a detector finds in all images: one that is trained here, or a published one; `folder` gets it."""
    from captioning.data.detection import detecting
    from captioning.data.objects import detectors

    machine, true = wanted.compute, {} if known is None else known.read(sizes)
    started = compute.start(
        seed=wanted.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    device = started.device
    with ImageArchives(DATA) as files:
        archives = files.archives(images["file"])
        examples = detecting.Examples(images, sizes, true, files)
        ready = (
            _trained(wanted, known, examples, archives, device, folder)
            if wanted.kind == TRAINED
            else _published(wanted, folder)
        )
        kept = scratch("objects") / _key({"detector": ready.detector.weights}, wanted, device.type, archives)
        found = detecting.find(ready.detector, examples, device, SCORED, kept)
    ready.end(kept)
    surest = {image: [one for one in listed if one.score >= detectors.SURE] for image, listed in found.items()}
    compared = _scores(found, true, images) if true else {}
    return Table(surest, {"name": ready.name, "weights": ready.detector.weights}, compared)


def _trained(
    wanted: Wanted,
    known: truth.Source | None,
    examples: "Examples",
    archives: list[Path],
    device: "Device",
    folder: Path,
) -> Ready:
    """A detector that is trained on the truth of the training images."""
    from captioning.data.detection import detecting
    from captioning.data.objects import detectors
    from captioning.system.checkpoints import Checkpoint

    if known is None:
        raise given.untrainable(wanted.dataset)
    settings = {"seed": wanted.seed, "dataset": wanted.dataset}
    checkpoint = Checkpoint(_key(settings, wanted, device.type, [known.file, *archives]), "objects")
    trained = detecting.train(examples, wanted.seed, device, checkpoint)
    described = {"truth": known.name, "dataset": wanted.dataset, **trained.card}
    written = detectors.write(folder, trained.network, described)

    def end(kept: Path) -> None:
        checkpoint.clear()
        shutil.rmtree(kept)

    return Ready(written, f"a detector trained on {known.name}", end)


def _published(wanted: Wanted, folder: Path) -> Ready:
    """A detector of torchvision. What it has found is kept: it is the same for every seed."""
    from captioning.data.detection import detecting
    from captioning.data.objects import detectors
    from captioning.vision.detection import torchvision_detectors

    name = wanted.kind.removesuffix(BOX_HEAD)
    torchvision_detectors.check(name, OWN)
    url = torchvision_detectors.preset(name).url
    file, fetched = fetch_weights(url, source=wanted.source, cache=scratch("weights"))
    taken = detectors.take(folder, name, file, fetched.origin)
    return Ready(taken, "torchvision, trained on COCO", detecting.keep)


def _key(settings: Mapping[str, object], wanted: Wanted, device: str, read: list[Path]) -> str:
    """A key of all that the result depends on. read: the images and what the data set says of them."""
    machine = wanted.compute.model_dump(exclude={"processes"})
    return run_key({**settings, "compute": machine, **compute.software(device)}, [IMAGES, *read], code("objects"))

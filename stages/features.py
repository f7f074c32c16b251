"""features: what the model reads of every image, decoded once → data/features/.

A frozen encoder: its features, or a detector's vectors. A trained one: resized pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from captioning.data.extraction import engines, extraction
from captioning.data.extraction.encoding import Rows, at_once, by_torch, half
from captioning.data.extraction.engines import Run
from captioning.data.extraction.extraction import Extractor
from captioning.data.objects import published_vectors
from captioning.data.objects.placing import of_folder
from captioning.data.objects.tables import AGAIN, CARD, PUBLISHED, Objects, of_vectors, read_card
from captioning.data.runtimes import registry
from captioning.data.runtimes.registry import Engine
from captioning.data.splits.images import read_images
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.settings.objects import of_box_head
from captioning.settings.schema import Compute, Features, Settings
from captioning.system import compute
from captioning.system.archives import ImageArchives
from captioning.system.files import run_key, scratch
from captioning.vision.encoders import backbones, encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.encoders.weights import NONE, read_record, read_weights
from captioning.vision.images import Transform, decode
from stages import code

DATA = Path("data/download")
IMAGES = Path("data/split/images.csv")
WEIGHTS = Path("data/weights")
OBJECTS = Path("data/objects")
OUT = Path("data/features")
EXAMPLES = 128  # training images that the ranges of 8-bit integers are taken from
BATCH = {"cpu": 4, "cuda": 64}  # images per forward pass of a frozen encoder; on a CPU each thread has a batch


def main(settings: Settings) -> None:
    machine, features = settings.compute, settings.features
    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    engines.check(features.engine, fabric.device.type)
    images = read_images(IMAGES)
    seed = None if _pretrained() else settings.seed  # of an encoder whose weights are drawn
    transform = backbones.transform_for(
        settings.encoder, features.image_size, pretrained=seed is None, crop=features.crop
    )
    fabric.print(
        f"features.trainable = {features.trainable}, image_size = {transform.image_size}, regions = {features.regions}"
    )
    with ImageArchives(DATA) as image_files:
        by = {} if _by_no_encoder() else {"encoder": settings.encoder, "seed": seed}
        encoding = {**by, **compute.software(fabric.device.type)}
        key = _key(encoding, features, machine, image_files.archives(images["file"]))
        extractor = extractor_of(settings, images, image_files, transform, fabric)
        extraction.write(OUT, images, extractor, features.shard_size, scratch("features") / key, fabric)


def extractor_of(
    settings: Settings, images: pd.DataFrame, image_files: ImageArchives, transform: Transform, fabric: Fabric
) -> Extractor:
    """What is stored of an image: its pixels, the output of a frozen encoder, or vectors of its objects.

    These are a user's, or those of a detector's box head.
    """
    features, batch_size, card = settings.features, BATCH[fabric.device.type], read_card(OBJECTS)
    if card["kind"] == PUBLISHED:
        published_vectors.check(features.trainable, features.crop, features.engine, features.mirror)
        return _published(images, transform, of_vectors(card), batch_size)
    if of_box_head(card["kind"]):
        return _by_box_head(images, image_files, transform, of_vectors(card), batch_size, fabric)
    if features.trainable:
        return extraction.pixels(image_files, transform, batch_size)
    boxes = _boxes(images, transform)
    return extraction.features(
        image_files,
        _frozen(settings.encoder, transform, settings.seed, fabric),
        ["means", "regions"] if features.regions else ["means"],
        batch_size,
        mirror=features.mirror,
        boxes=boxes,
        objects=of_vectors(card) if boxes else None,
        runs=_runs(settings, fabric, lambda: _examples(images, image_files, transform)),
    )


def _frozen(name: str, transform: Transform, seed: int, fabric: Fabric) -> Encoder:
    weights = read_weights(WEIGHTS / "weights.safetensors")
    encoder = encoders.build(name, transform=transform, weights=weights, seed=seed)
    return encoders.freeze(encoder).to(fabric.device)


def _runs(settings: Settings, fabric: Fabric, examples: Callable[[], np.ndarray]) -> Callable[[Encoder], Sequence[Run]]:
    """How a frozen encoder is run."""
    engine, integers = engines.named(settings.features.engine)
    if engine == Engine.torch:
        return partial(by_torch, autocast=fabric.autocast)
    return lambda encoder: engines.runs(
        encoder,
        engine,
        BATCH["cpu"],
        at_once(encoder),
        bf16=settings.compute.precision == "bf16-mixed",
        examples=examples() if integers else None,
    )


def _examples(images: pd.DataFrame, image_files: ImageArchives, transform: Transform) -> np.ndarray:
    """The first training images, uint8 (N, 3, S, S)."""
    files = images["file"][images["split"] == "train"][:EXAMPLES]
    return extraction.read_pixels(image_files, files.tolist(), transform)


def _published(images: pd.DataFrame, transform: Transform, objects: Mapping[str, str], batch_size: int) -> Extractor:
    """A user's vectors. No image is decoded."""
    found = Objects(OBJECTS).found
    vectors = published_vectors.Vectors(OBJECTS, {image: len(own) for image, own in found.items()})
    ids = dict(zip(images["file"].tolist(), images["image_id"].tolist(), strict=True))
    return extraction.given(lambda files: vectors.of([ids[file] for file in files]), transform, objects, batch_size)


def _by_box_head(
    images: pd.DataFrame,
    image_files: ImageArchives,
    transform: Transform,
    objects: Mapping[str, str],
    batch_size: int,
    fabric: Fabric,
) -> Extractor:
    """Vectors of the detector that found the objects. The encoder has no part in them."""
    from captioning.data.objects import box_head, detectors

    detector = detectors.read(OBJECTS / detectors.FOLDER, AGAIN)
    detector.network.to(fabric.device)
    places = of_folder(OBJECTS, images["image_id"].tolist(), transform, Vocabulary(SPECIAL))
    assert places is not None
    row_of = {file: row for row, file in enumerate(images["file"])}

    def rows(files: list[str]) -> Rows:
        own = [row_of[file] for file in files]
        shown = [decode(image_files.read(file), file) for file in files]
        made = box_head.vectors(detector, shown, places.boxes[own], places.mask[own])
        regions = half(torch.from_numpy(made), files, "choose another detector")
        return {"means": regions[:, 0].copy(), "regions": regions}

    threads = torch.get_num_threads() if fabric.device.type == "cpu" else 1
    return extraction.given(rows, transform, objects, batch_size, threads=threads)


def _by_no_encoder() -> bool:
    """Are the vectors a user's, or a detector's?"""
    kind = read_card(OBJECTS)["kind"]
    return kind == PUBLISHED or of_box_head(kind)


def _pretrained() -> bool:
    return bool(read_record(WEIGHTS)["kind"] != NONE)


def _boxes(images: pd.DataFrame, transform: Transform) -> dict[str, np.ndarray] | None:
    """File → boxes (R, 4) as shares of what the encoder sees, the whole image first; None without objects."""
    places = of_folder(OBJECTS, images["image_id"].tolist(), transform, Vocabulary(SPECIAL))
    if places is None:
        return None
    return dict(zip(images["file"].tolist(), places.boxes, strict=True))


def _made_by(setting: str) -> dict[str, str]:
    """What `features.engine` names, and the versions of its packages; torch's own is known already."""
    engine, integers = engines.named(setting)
    packages = registry.versions(engine) if engine != Engine.torch else {}
    return {"name": setting, **packages, **(registry.versions(Engine.onnxruntime) if integers else {})}


def _key(encoding: dict[str, object], features: Features, machine: Compute, archives: list[Path]) -> str:
    """A key of all that the store's bytes depend on.

    archives: those of the images. They are read whole for their digests: their names and the captions stay the same
    when images are replaced.
    """
    settings = {
        **encoding,
        "trainable": features.trainable,
        "image_size": features.image_size,
        "crop": features.crop,
        "regions": features.regions,
        "mirror": features.mirror,
        "shard_size": features.shard_size,
        "engine": _made_by(features.engine),
        "compute": machine.model_dump(exclude={"processes"}),
    }
    weights = [] if _by_no_encoder() else sorted(WEIGHTS.iterdir())
    return run_key(settings, [IMAGES, *archives, *weights, OBJECTS / CARD], code("features"))

"""`python -m stages verify IMAGES SEED EPOCHS`: make a piece of a finished run again, and compare it with the record.

Not a stage: it writes nothing. `captioning verify` runs it in the workspace, or in a copy of a revision, so that the
code of that revision does the work.
"""

import csv
import json
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torchvision
from lightning_fabric import Fabric

from captioning.captioner import cards
from captioning.captioner.decoding import captions_of_rows
from captioning.data.splits.images import read_images
from captioning.settings.rules import search_options
from captioning.settings.schema import Settings
from captioning.system import compute
from captioning.system.archives import ImageArchives
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.system.files import read_json
from captioning.vision.features.store import ARRAYS, FeatureStore
from stages import evaluate, features, train

CAPTIONS = Path("data/evaluate/captions.json")
CURVES = Path("data/train/plots/metrics")
NEEDED = (evaluate.SPLIT / "images.csv", evaluate.FEATURES / "index.json", evaluate.MODEL / cards.NAME, CAPTIONS)


def main(settings: Settings) -> None:
    """Verify features of some images, one batch of captions, and the first epochs. How many is in sys.argv.

    Raises UserError when a file of the run is not there, or something differs.
    """
    count, seed, epochs = (int(text) for text in sys.argv[2:5])
    for path in NEEDED:
        if not path.is_file():
            raise UserError(f"{path} is missing; run the pipeline (`dvc repro`), or bring it back with `dvc checkout`")
    machine = settings.compute
    fabric = compute.start(
        seed=settings.seed, threads=machine.threads, device=machine.device, precision=machine.precision
    )
    images = read_images(evaluate.SPLIT / "images.csv")
    store = FeatureStore(evaluate.FEATURES, images["image_id"].tolist())
    print(_here(fabric.device))
    card = cards.read(evaluate.MODEL).card
    print(f"trained with: {json.dumps(card.compute, sort_keys=True)}")
    draw = random.Random(seed)
    rows = np.array(sorted(draw.sample(range(len(images)), min(count, len(images)))))
    faults = _differing_features(settings, fabric, images, store, rows)
    faults += _differing_captions(settings, fabric, images, store, draw)
    faults += _differing_epochs(settings, epochs) if epochs else []
    if faults:
        raise UserError("\n".join(faults))


def _here(device: torch.device) -> str:
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"verified on: {compute.cpu_vendor() or 'an unknown CPU'}, {capability}, {device.type}, {versions}"


def _differing_features(
    settings: Settings, fabric: Fabric, images: pd.DataFrame, store: FeatureStore, rows: np.ndarray
) -> list[str]:
    """Encode some images again → a line for each that is not what the store has."""
    files = images["file"].iloc[rows].tolist()
    with ImageArchives(evaluate.DATA) as image_files:
        extractor = features.extractor_of(settings, images, image_files, store.transform, fabric)
        made = list(extractor.extract(files))
    names = [name for name in ARRAYS if name in made[0]]
    unequal = np.zeros(len(rows), dtype=bool)
    for name in names:
        again = np.concatenate([batch[name] for batch in made])
        unequal |= (getattr(store, name)[rows] != again).reshape(len(rows), -1).any(1)
    print(f"{', '.join(names)} of {len(rows)} of {len(images):,} images: {np.sum(~unequal)} equal")
    return [f"{files[index]}: {' or '.join(names)} differ from data/features" for index in np.flatnonzero(unequal)]


def _differing_captions(
    settings: Settings, fabric: Fabric, images: pd.DataFrame, store: FeatureStore, draw: random.Random
) -> list[str]:
    """Caption one batch of `evaluate` again → a line for each caption that is another one."""
    test = images[images["split"] == "test"]
    start = draw.randrange(0, len(test), evaluate.BATCH)
    batch = test.iloc[start : start + evaluate.BATCH]
    captioners = evaluate._captioners(settings.evaluate, fabric, store)
    readers = captioners.readers(store, fabric.device)
    options, rows = search_options(settings), batch.index.to_numpy()
    found = captions_of_rows(captioners, readers, rows, options, evaluate.BATCH, fabric)
    captions = {image: listed[0].text for image, listed in zip(batch["coco_id"], found, strict=True)}
    recorded = {row["image_id"]: row["caption"] for row in read_json(CAPTIONS)}
    faults = [
        f"image {image}: `{caption}`, in {CAPTIONS} `{recorded.get(image)}`"
        for image, caption in captions.items()
        if recorded.get(image) != caption
    ]
    print(f"captions of {len(batch)} of {len(test):,} test images: {len(batch) - len(faults)} equal")
    return faults


class _EnoughError(Exception):
    """So many epochs have been trained again."""


class _NoCheckpoint(Checkpoint):
    """Nothing is taken up, and nothing is left."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def load(self) -> None:
        """Begin at the beginning."""


def _differing_epochs(settings: Settings, epochs: int) -> list[str]:
    """Train the first epochs again → a line for each scalar that is another one.

    A finished run has no checkpoint any more. Its losses, norms of gradients and updates of weights, module by module,
    and validation scores depend on every weight, and are recorded in all their digits.
    """
    recorded = {path.relative_to(CURVES).with_suffix("").as_posix(): _column(path) for path in CURVES.rglob("*.tsv")}
    faults: list[str] = []
    trained: list[int] = []

    def compare(scalars: Mapping[str, float], *_: object) -> None:
        epoch = len(trained)
        wrong = [name for name, value in scalars.items() if _at(recorded.get(name, []), epoch) != value]
        faults.extend(
            f"epoch {epoch + 1}: {name} = {scalars[name]!r}, in {CURVES} {_at(recorded.get(name, []), epoch)!r}"
            for name in wrong
        )
        print(f"epoch {epoch + 1}, trained again: {len(scalars) - len(wrong)} of {len(scalars)} scalars equal")
        trained.append(epoch)
        if len(trained) == epochs:
            raise _EnoughError

    with suppress(_EnoughError):
        train.prepare(settings, _NoCheckpoint).trainer.fit(compare)
    return faults


def _column(path: Path) -> list[float]:
    """The values of a scalar, epoch by epoch, as DVCLive writes them."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [float(row[path.stem]) for row in csv.DictReader(stream, delimiter="\t")]


def _at(values: Sequence[float], index: int) -> float | None:
    return values[index] if index < len(values) else None

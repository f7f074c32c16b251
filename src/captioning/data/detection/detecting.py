"""From images and what is true of them to a detector, and from a detector to what it finds in them."""

import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from captioning.data.detection import labelled
from captioning.data.detection.labelled import Labelled
from captioning.data.detection.training import SIDE, DetectorTraining
from captioning.data.objects import detectors, scores
from captioning.data.objects.detectors import ObjectDetector, TrainedDetector
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found, Sizes
from captioning.system.archives import ImageArchives
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.system.files import scratch
from captioning.system.sealed import DamagedError, read_document, write_document
from captioning.system.side_by_side import in_order
from captioning.vision.detection.network import CentrePoints
from captioning.vision.images import decode

_WHOLE = "whole"  # a file beside what was found of all images
_PART = 16  # images whose objects are kept together: what a kill costs


class Examples(NamedTuple):
    """The images of a run, their sizes, what is true of them where that is known, and their files."""

    images: pd.DataFrame
    sizes: Sizes
    true: Mapping[str, Truth]
    files: ImageArchives

    def named(self, *splits: str) -> list[tuple[str, str]]:
        """Ids and files of the images of these splits whose objects are known."""
        rows = self.images[self.images["split"].isin(splits)]
        return [pair for pair in zip(rows["image_id"], rows["file"], strict=True) if pair[0] in self.true]

    def pixels(self, files: Collection[str]) -> np.ndarray:
        """uint8 (N, 3, S, S) of these images, on the disk; see `labelled.stored`."""
        transform = detectors.transform(SIDE)
        images = (transform.pixels(decode(self.files.read(file), file, SIDE)) for file in files)
        return labelled.stored(images, (len(files), 3, SIDE, SIDE), scratch("objects"))


class Trained(NamedTuple):
    """The weights of the best epoch, and what the detector's card says of them."""

    network: dict[str, Tensor]
    card: dict[str, Any]


def train(examples: Examples, seed: int, device: torch.device, checkpoint: Checkpoint) -> Trained:
    """Train a detector on the training images, with the epoch whose AP50 on validation is best.

    Raises UserError where no object of a training image is known.
    """
    named = examples.named("train")
    true = {image: examples.true[image].objects for image, _ in named}
    classes = tuple(sorted({one.name for found in true.values() for one in found}))
    if not classes:
        raise UserError("objects = trained: no object is known of any training image; write objects: none, or labels")
    boxes = [labelled.boxes(found, examples.sizes[image], classes) for image, found in true.items()]
    data = Labelled(examples.pixels([file for _, file in named]), boxes)
    torch.manual_seed(seed)
    network = CentrePoints(len(classes)).to(device)
    training = DetectorTraining(network, data, _Validation(examples, classes), checkpoint, seed)
    progress = training.fit()
    known = {"classes": list(classes), "image_size": SIDE, "seed": seed, "images": len(named)}
    return Trained(training.best, {**known, "epoch": progress.best + 1, "history": progress.history})


class _Validation:
    """Average precision of a network on the validation images."""

    def __init__(self, examples: Examples, classes: tuple[str, ...]) -> None:
        named = examples.named("val")
        self.true = {image: examples.true[image] for image, _ in named}
        self.sizes, self.classes = examples.sizes, classes
        self.pixels = examples.pixels([file for _, file in named])

    def __call__(self, network: CentrePoints) -> dict[str, float]:
        detector = TrainedDetector(network, self.classes, SIDE)
        pairs = zip(self.true, self.pixels, strict=True)
        found = {image: detector.of_pixels(pixels, self.sizes[image], detector.faint) for image, pixels in pairs}
        return scores.average_precision(found, self.true)


def find(
    detector: ObjectDetector, examples: Examples, device: torch.device, scored: Collection[str], kept: Path
) -> dict[str, list[Found]]:
    """Image → what is found in it; also what is hardly seen, in images of the splits that are scored.

    Threads read an image each. What they have found is kept in the folder `kept`, so that a run that was killed goes
    on; it belongs to these images, this detector and this code.
    """
    detector.network.to(device)
    rows = list(zip(*(examples.images[name] for name in ("image_id", "file", "split")), strict=True))
    parts = [(kept / f"{start // _PART:05}.json", rows[start : start + _PART]) for start in range(0, len(rows), _PART)]

    def work(part: tuple[Path, list[tuple[str, str, str]]]) -> dict[str, list[Found]]:
        return _kept(part[0], partial(_in_images, detector, examples, part[1], scored))

    found: dict[str, list[Found]] = {}
    with (
        closing(in_order(work, parts, torch.get_num_threads())) as results,
        tqdm(total=len(rows), desc="objects", unit="image") as bar,
    ):
        for result in results:
            found |= result
            bar.update(len(result))
    return {image: found[image] for image, _, _ in rows}


def keep(kept: Path) -> None:
    """Leave all that was found for later runs, and remove what earlier ones left so: at most one is kept."""
    for other in sorted(kept.parent.glob(f"*/{_WHOLE}")):
        if other.parent != kept:
            shutil.rmtree(other.parent, ignore_errors=True)
    (kept / _WHOLE).touch()


def _in_images(
    detector: ObjectDetector, examples: Examples, rows: list[tuple[str, str, str]], scored: Collection[str]
) -> dict[str, list[Found]]:
    """What is found in images of these ids, files and splits."""
    found = {}
    for image, file, split in rows:
        least = detector.faint if split in scored else None
        found[image] = detector.found(decode(examples.files.read(file), file), least, examples.sizes[image])
    return found


def _kept(record: Path, make: Callable[[], dict[str, list[Found]]]) -> dict[str, list[Found]]:
    """What a record says of objects; where there is none, or it is damaged, it is made."""
    try:
        return {
            image: [Found(one["class"], one["conf"], tuple(one["rect"])) for one in listed]
            for image, listed in read_document(record, "")["objects"].items()
        }
    except DamagedError:
        made = make()
        write_document(record, {"objects": {image: [one.record() for one in found] for image, found in made.items()}})
        return made

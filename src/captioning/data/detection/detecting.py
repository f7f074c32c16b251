"""From images and what is true of them to a detector, and from a detector to what it finds in them."""

from collections.abc import Collection, Mapping
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
from captioning.data.objects.detectors import ObjectDetector
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found, Sizes
from captioning.system.archives import ImageArchives
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.system.files import scratch
from captioning.vision.detection.network import CentrePoints
from captioning.vision.images import decode

FAINT = 0.01  # score below which an object changes no average precision


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
        detector = ObjectDetector(network, self.classes, SIDE)
        pairs = zip(self.true, self.pixels, strict=True)
        found = {image: detector.of_pixels(pixels, self.sizes[image], FAINT) for image, pixels in pairs}
        return scores.average_precision(found, self.true)


def find(
    detector: ObjectDetector, examples: Examples, device: torch.device, scored: Collection[str]
) -> dict[str, list[Found]]:
    """Image → what is found in it; also what is hardly seen, in images of the splits that are scored."""
    detector.network.to(device)
    rows = list(zip(*(examples.images[name] for name in ("image_id", "file", "split")), strict=True))
    found = {}
    for image, file, split in tqdm(rows, "objects", unit="image"):
        pixels = detector.transform.pixels(decode(examples.files.read(file), file))
        least = FAINT if split in scored else detectors.SURE
        found[image] = detector.of_pixels(pixels, examples.sizes[image], least)
    return found

"""A tiny training of the decoder oscar with a phase of pretraining, in this process."""

from typing import Any

import numpy as np

from captioning import decoders
from captioning.decoders.bert import Contrast
from captioning.system import compute
from captioning.training.cross_entropy import CrossEntropy, CrossEntropyOptions
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.inputs import FeatureInputs, Inputs, PixelInputs
from captioning.training.network import Network
from captioning.training.pairs import CLASSES
from captioning.training.phase import Data, Setup
from captioning.training.pretraining import Pretraining, PretrainingOptions
from captioning.training.trainer import LoopOptions, Trainer
from captioning.vision.features.places import StoredPlaces
from tests.test_training import RATE, Colours, Memory, options
from tests.test_training import data as plain_data

OSCAR = {"width": 16, "layers": 2, "heads": 2, "feed_forward": 32, "positions": 50, "image_norm": True}


def data(pixels: bool) -> Data:
    """Images whose colour is in the regions and whose animal is a tag; without objects where pixels are read."""
    read = plain_data(pixels)
    if not pixels:
        store: Any = read.store
        store.regions = np.stack([store.means, store.means[:, ::-1]], axis=1)
        animals = 4 + 3 + store.means[:, 3:6].argmax(1, keepdims=True).astype(np.int64)
        boxes = np.tile(np.array([[0, 0, 1, 1], [0, 0.5, 1, 1]], np.float32), (24, 1, 1))
        store.places = StoredPlaces(np.ones((24, 2), bool), boxes, animals)
    return read


def trainer(
    memory: Memory, read: Data | None = None, *, pixels: bool = False, pretraining: int = 2, **changes: Any
) -> Trainer:
    """A tiny training of an oscar: `pretraining` epochs ahead of those of cross-entropy."""
    fabric = compute.start(seed=3, threads=1, device="cpu", precision="32-true")
    read = read or data(pixels)
    decoder = decoders.build(
        "oscar", read.vocabulary, 6 if pixels else 8, OSCAR | {"dropout": changes.get("dropout", 0.1)}
    )
    contrast = Contrast(16, CLASSES) if pretraining else None
    encoder = EncoderTraining(Colours()) if pixels else None  # type: ignore[arg-type]
    network = Network(encoder, decoder, reads_objects=not pixels, contrast=contrast)
    inputs: Inputs = PixelInputs(read.store) if pixels else FeatureInputs(read.store, by_image=True)
    setup = Setup(network, inputs, read, fabric)
    chosen = {"lr": RATE / 2, "batch_size": 20} | changes
    phases: list[Any] = []
    if pretraining:
        phases.append(Pretraining(setup, options(PretrainingOptions, chosen | {"epochs": pretraining})))
    if chosen.get("epochs", 1):
        modules = [(module, RATE / 2) for module in network.children()]
        phases.append(CrossEntropy(setup, modules, options(CrossEntropyOptions, {"epochs": 1} | chosen)))
    return Trainer(setup, phases, options(LoopOptions, chosen), memory)  # type: ignore[arg-type]

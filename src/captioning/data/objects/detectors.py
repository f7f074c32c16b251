"""Detectors, which find the objects of an image; one is in a folder.

    detector.json          classes, the digest of its weights, where these are from; sealed. `network`, of a detector of
                           torchvision: its name; of one that was trained here: `image_size`, how it was trained
    detector.safetensors   the weights

The folder `data/objects/detector` has both, and so has that of each captioner which reads the objects.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from captioning.data.objects.labels import Found
from captioning.system import state_dicts
from captioning.system.errors import UserError, reason, shown
from captioning.system.files import copy, digest, write_bytes
from captioning.system.sealed import DamagedError, read_document, write_document
from captioning.vision.detection import torchvision_detectors
from captioning.vision.detection.network import CentrePoints
from captioning.vision.detection.peaks import peaks
from captioning.vision.images import Transform

CARD, WEIGHTS = "detector.json", "detector.safetensors"
FILES = (CARD, WEIGHTS)
FOLDER = "detector"  # of the stage's folder
SURE = 0.3  # score from which on an object is named and read, as in the figures of Zhou et al. 2019
MOST = 100  # objects of an image that count in AP, as in COCO
_DIGITS = 4, 1  # of scores, and of boxes in pixels: as `label.tsv` has them, so that each reader sees the same numbers


def transform(side: int) -> Transform:
    """How an image becomes pixels for a detector that is trained here: squeezed to a square, as its true boxes are."""
    return Transform(side, None, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class ObjectDetector(ABC):
    """Images to objects. An image is read by itself, so what is found does not depend on those beside it."""

    faint = 0.0  # score below which an object changes no average precision

    def __init__(self, network: nn.Module, classes: tuple[str, ...], weights: str = "") -> None:
        """classes: names, by number. weights: their digest; empty in training."""
        self.network, self.classes, self.weights = network.eval(), classes, weights

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @abstractmethod
    def found(self, image: Image.Image, least: float | None = None, size: tuple[int, int] | None = None) -> list[Found]:
        """The objects of an RGB image whose score is at least `least`, or SURE, best first; at most MOST.

        Boxes are in pixels of an image of `size`, width and height; None: of this one.
        """

    def vectors(self, image: Image.Image, shares: np.ndarray) -> np.ndarray:
        """Vectors of boxes (R, 4), as shares of an RGB image, float32 (R, D); of a detector with a box head alone."""
        raise NotImplementedError

    def _objects(
        self, scores: Tensor, classes: Tensor, shares: Tensor, size: tuple[int, int], least: float
    ) -> list[Found]:
        """Scores (M,), numbers of classes (M,) and boxes (M, 4) as shares, best first → objects."""
        listed = zip(scores.tolist(), classes.tolist(), shares.tolist(), strict=True)
        objects = [self._object(score, kind, box, size) for score, kind, box in listed if score >= least]
        return [one for one in objects if one.box[0] < one.box[2] and one.box[1] < one.box[3]]

    def _object(self, score: float, kind: int, box: list[float], size: tuple[int, int]) -> Found:
        left, top, right, bottom = (round(share * size[axis % 2], _DIGITS[1]) for axis, share in enumerate(box))
        return Found(self.classes[kind], round(score, _DIGITS[0]), (left, top, right, bottom))


class TrainedDetector(ObjectDetector):
    """A centre-point network, trained here."""

    faint = 0.01

    def __init__(self, network: CentrePoints, classes: tuple[str, ...], side: int, weights: str = "") -> None:
        """side: of the images that the network was trained on, in pixels."""
        super().__init__(network, classes, weights)
        self.transform = transform(side)

    def found(self, image: Image.Image, least: float | None = None, size: tuple[int, int] | None = None) -> list[Found]:
        """See `ObjectDetector.found`."""
        return self.of_pixels(self.transform.pixels(image), size or image.size, SURE if least is None else least)

    @torch.inference_mode()
    def of_pixels(self, pixels: np.ndarray, size: tuple[int, int], least: float) -> list[Found]:
        """As `found`, of uint8 pixels (3, S, S) of an image of `size`, width and height."""
        batch = torch.from_numpy(np.array(pixels)).unsqueeze(0).to(self.device)
        best = peaks(self.network(batch), MOST)
        return self._objects(best.scores[0], best.classes[0], best.boxes[0], size, least)


class PublishedDetector(ObjectDetector):
    """A detector of torchvision. What it finds of a number that is no class is left out."""

    def found(self, image: Image.Image, least: float | None = None, size: tuple[int, int] | None = None) -> list[Found]:
        """See `ObjectDetector.found`."""
        best = torchvision_detectors.find(self.network, self._pixels(image))
        named = torch.tensor([torchvision_detectors.is_class(kind, self.classes) for kind in best.classes.tolist()])
        scores, classes, boxes = (part.cpu()[named.nonzero().flatten()][:MOST] for part in best)
        shares = boxes / boxes.new_tensor([*image.size, *image.size])
        return self._objects(scores, classes, shares.clamp(0, 1), size or image.size, SURE if least is None else least)

    def vectors(self, image: Image.Image, shares: np.ndarray) -> np.ndarray:
        """See `ObjectDetector.vectors`."""
        boxes = torch.from_numpy(shares * np.array([*image.size, *image.size], np.float32))
        made: np.ndarray = torchvision_detectors.vectors(self.network, self._pixels(image), boxes).cpu().numpy()
        return made

    def _pixels(self, image: Image.Image) -> Tensor:
        """uint8 (3, H, W)."""
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(self.device)


def write(folder: Path, network: Mapping[str, Tensor], card: Mapping[str, Any]) -> ObjectDetector:
    """Write a detector to `folder`/detector, and return it as it is read from there. The same one gives the same bytes.

    card: `classes`; `image_size`, or the name of torchvision's `network`; and where the weights are from.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.items())}
    own = folder / FOLDER
    write_bytes(own / WEIGHTS, save_tensors(state))
    write_document(own / CARD, {**card, "weights": digest(own / WEIGHTS)})
    return read(own, "run it again")


def take(folder: Path, name: str, file: Path, origin: str) -> ObjectDetector:
    """Write torchvision's detector `name`, with the weights in `file`, as `write` does. origin: of the file.

    What no box depends on is left out. Raises UserError where the weights are not those of this detector.
    """
    try:
        network = torchvision_detectors.fitted(name, state_dicts.read(file))
    except UserError as fault:
        raise UserError(f"objects = {name}: {file}: {fault}") from None
    classes = list(torchvision_detectors.preset(name).classes)
    published = {"name": file.name, "origin": origin, "sha256": digest(file)}
    return write(folder, network.state_dict(), {"network": name, "classes": classes, "published": published})


def read(folder: Path, remedy: str) -> ObjectDetector:
    """The detector in a folder, on the CPU. Raises UserError, which ends in `remedy`, unless it is as written."""
    card = read_document(folder / CARD, remedy)
    path = folder / WEIGHTS
    if not path.is_file() or digest(path) != card["weights"]:
        raise DamagedError(f"{path}: not the file that {CARD} describes; {remedy}")
    try:
        return _rebuilt(card, load_file(path))
    except (RuntimeError, SafetensorError, UserError) as fault:
        raise UserError(
            f"{path}: no weights of this network ({shown(reason(fault, first_line=True))}); {remedy}"
        ) from None


def _rebuilt(card: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ObjectDetector:
    classes = tuple(card["classes"])
    if "network" in card:
        return PublishedDetector(torchvision_detectors.fitted(card["network"], weights), classes, card["weights"])
    network = CentrePoints(len(classes))
    network.load_state_dict(weights)
    return TrainedDetector(network, classes, card["image_size"], card["weights"])


def of(folder: Path) -> Path | None:
    """Where the detector is that found the objects of the stage's folder; None where none did."""
    own = folder / FOLDER
    return own if own.is_dir() else None


def bring(source: Path, folder: Path) -> None:
    """Copy a detector from one folder to another one."""
    for name in FILES:
        copy(source / name, folder / name)

"""A trained detector in a folder, and what it finds in an image.

    detector.json          classes, side of its images, the digest of its weights, how it was trained; sealed
    detector.safetensors   the weights of the centre-point network

The folder `data/objects/detector` has both, and so has that of each captioner which reads the objects.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from captioning.data.objects.labels import Found
from captioning.system.errors import UserError, reason, shown
from captioning.system.files import copy, digest, write_bytes
from captioning.system.sealed import DamagedError, read_document, write_document
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
    """How an image becomes pixels for a detector: squeezed to a square, as its true boxes are."""
    return Transform(side, None, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class ObjectDetector:
    """Images to objects. An image is read by itself, so what is found does not depend on those beside it."""

    def __init__(self, network: CentrePoints, classes: tuple[str, ...], side: int, weights: str = "") -> None:
        """classes: names, by number. side: of the images that the network was trained on, in pixels.

        weights: their digest; empty in training.
        """
        self.network, self.classes, self.transform, self.weights = network.eval(), classes, transform(side), weights

    def found(self, image: Image.Image, least: float = SURE) -> list[Found]:
        """The objects of an RGB image whose score is at least `least`, best first, in its pixels; at most MOST."""
        return self.of_pixels(self.transform.pixels(image), image.size, least)

    @torch.inference_mode()
    def of_pixels(self, pixels: np.ndarray, size: tuple[int, int], least: float) -> list[Found]:
        """As `found`, of uint8 pixels (3, S, S) of an image of `size`, width and height."""
        batch = torch.from_numpy(np.array(pixels)).unsqueeze(0).to(self.network.heat.weight.device)
        best = peaks(self.network(batch), MOST)
        listed = zip(best.scores[0].tolist(), best.classes[0].tolist(), best.boxes[0].tolist(), strict=True)
        objects = [self._object(score, kind, box, size) for score, kind, box in listed if score >= least]
        return [one for one in objects if one.box[0] < one.box[2] and one.box[1] < one.box[3]]

    def _object(self, score: float, kind: int, box: list[float], size: tuple[int, int]) -> Found:
        left, top, right, bottom = (round(share * size[axis % 2], _DIGITS[1]) for axis, share in enumerate(box))
        return Found(self.classes[kind], round(score, _DIGITS[0]), (left, top, right, bottom))


def write(folder: Path, network: Mapping[str, Tensor], card: Mapping[str, Any]) -> ObjectDetector:
    """Write a detector to `folder`/detector, and return it as it is read from there. The same one gives the same bytes.

    card: `classes`, `image_size`, and how it was trained.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.items())}
    own = folder / FOLDER
    write_bytes(own / WEIGHTS, save_tensors(state))
    write_document(own / CARD, {**card, "weights": digest(own / WEIGHTS)})
    return read(own, "run it again")


def read(folder: Path, remedy: str) -> ObjectDetector:
    """The detector in a folder, on the CPU. Raises UserError, which ends in `remedy`, unless it is as written."""
    card = read_document(folder / CARD, remedy)
    path = folder / WEIGHTS
    if not path.is_file() or digest(path) != card["weights"]:
        raise DamagedError(f"{path}: not the file that {CARD} describes; {remedy}")
    network = CentrePoints(len(card["classes"]))
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as fault:
        raise UserError(
            f"{path}: no weights of this network ({shown(reason(fault, first_line=True))}); {remedy}"
        ) from None
    return ObjectDetector(network, tuple(card["classes"]), card["image_size"], card["weights"])


def of(folder: Path) -> Path | None:
    """Where the detector is that found the objects of the stage's folder; None where none did."""
    own = folder / FOLDER
    return own if own.is_dir() else None


def bring(source: Path, folder: Path) -> None:
    """Copy a detector from one folder to another one."""
    for name in FILES:
        copy(source / name, folder / name)

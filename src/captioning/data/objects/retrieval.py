"""What captions of the nearest training images say, as one more region of an image.

Retrieval-augmented captioning in small: decoders that read captions of like images are by Sarto et al. 2022
("Retrieval-augmented transformer for image captioning") and Ramos et al. 2023 ("SmallCap"). Here nothing is read word
by word. Two vectors in the space of captions are looked at: where a ridge regression expects the image's captions, and
where those of its nearest training images are. Images are near each other as in `decoders.neighbours`.

The folder of each captioner that reads them has two files:

    retrieval.json          how many images, how near they are to others; the digest of the second file; sealed
    retrieval.safetensors   the regression, and where the training images and their captions are

B images, D feature width, E width of what is found (2 S), I training images, K neighbours, S width of the space.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from captioning.data.objects import kept
from captioning.data.text.caption_space import LIKE, CaptionSpace
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.encodings import widened

NAME = "retrieval"
FILES = kept.files(NAME)
NEIGHBOURS = 40  # training images that are looked up


class Near(NamedTuple):
    """The neighbours of B images: their cosines, and their rows among the training images, (B, K) each."""

    similarity: Tensor
    rows: Tensor


class Retrieval:
    """Means of images to vectors. It computes on the CPU, in double precision, whatever device the means are on."""

    def __init__(self, space: CaptionSpace, images: Tensor, captions: Tensor, record: Mapping[str, Any]) -> None:
        """images (I, S): where the training images are, of length 1. captions (I, S): where their captions are.

        Both are rounded to half precision, as they are written. record: how it was fitted.
        """
        self.space, self.record = CaptionSpace(*(tensor.double() for tensor in space)), dict(record)
        self.images, self.captions = images.half().double(), captions.half()

    @property
    def width(self) -> int:
        """E."""
        return 2 * self.images.shape[1]

    @property
    def dim(self) -> int:
        """D."""
        return len(self.space.mean)

    def same_space(self, other: "Retrieval") -> bool:
        """Do the numbers of both mean the same? Only if they are of the same images and captions."""
        ours, theirs = ((one.space.weight, one.captions) for one in (self, other))
        return all(torch.equal(own, its) for own, its in zip(ours, theirs, strict=True))

    def near(self, places: Tensor) -> Near:
        """Images in the space (B, S) → the training images that are nearest, nearest first."""
        return Near(*(places @ self.images.T).topk(min(NEIGHBOURS, len(self.images)), dim=1))

    def vectors(self, means: Tensor) -> Tensor:
        """Means (B, D) → the image's own place, and that of its neighbours' captions: float32 (B, E), on the CPU.

        Each half has a length of √S, so that its numbers are as large as a normalised feature's.
        """
        places = self.place(means)
        return self.joined(places, self.near(places))

    def place(self, means: Tensor) -> Tensor:
        """Means (B, D) → where the images are in the space, float64 (B, S), on the CPU."""
        return self.space.place(means.detach().cpu().double())

    def joined(self, places: Tensor, near: Near) -> Tensor:
        """Images in the space (B, S) and their neighbours → as `vectors`. A neighbour at −∞ does not count."""
        weights = torch.softmax(LIKE * near.similarity, dim=1).nan_to_num(0.0).unsqueeze(2)  # (B, K, 1)
        found = functional.normalize((weights * self.captions[near.rows].double()).sum(1), dim=1)
        return torch.cat([places, found], dim=1).mul(places.shape[1] ** 0.5).float()

    def added(self, encoded: Encoded, _vocabulary: Vocabulary) -> Encoded:
        """An encoder's output, with what is found as one more region, and behind the mean."""
        return widened(encoded, self.vectors(encoded.mean).to(encoded.mean))


def write(folder: Path, retrieval: Retrieval) -> None:
    """Write both files into a folder that is there. The same retrieval gives the same bytes."""
    space = {name: tensor.float() for name, tensor in retrieval.space._asdict().items()}
    known = {"images": retrieval.images.half(), "captions": retrieval.captions}
    kept.write(folder, NAME, retrieval.record, space | known)


def read(folder: Path, remedy: str) -> Retrieval:
    """What `write` wrote. Raises UserError, which ends in `remedy`, for anything else."""
    record, tensors = kept.read(folder, NAME, remedy)
    names = (*CaptionSpace._fields, "images", "captions")
    if tensors.keys() != {*names} or not _fit(*(tensors[name].shape for name in names)):
        raise UserError(f"{folder / FILES[1]}: not of the regression and its training images; {remedy}")
    mean, deviation, weight, images, captions = (tensors[name] for name in names)
    return Retrieval(CaptionSpace(mean, deviation, weight), images, captions, record)


def _fit(mean: torch.Size, deviation: torch.Size, weight: torch.Size, images: torch.Size, captions: torch.Size) -> bool:
    """Are these shapes (D,), (D,), (D, S), (I, S) and (I, S)?"""
    flat = len(weight) == len(images) == 2 and weight[:1] == mean == deviation
    return flat and images == captions and images[1] == weight[1] and images[0] > 0

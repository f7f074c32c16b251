"""How unlike an image is to those that a model was trained on, by its features: out-of-distribution detection.

A model folder keeps the features of some training and validation images. The measure is the squared distance between
an image's feature vector, scaled to length 1, and the principal subspace of the training ones, which most images that
a network was not trained on lie far from (Wang et al. 2022, "ViM: Out-of-Distribution with Virtual-logit Matching",
section 4). No image of another kind is needed to set it up: the threshold is a quantile over validation images.

N training images, M validation images, B images, D feature width, C principal components.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

IMAGES = 512  # at most so many training images, and validation images, are kept
_COMPONENTS = 4  # C = min(N, D) / 4
_QUANTILE = 0.99  # of validation images, so many are like the training images


class KeptFeatures(NamedTuple):
    """Mean features of length 1, float16: training images (N, D) and validation images (M, D)."""

    train: Tensor
    val: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By the names that the file in a model folder has."""
        return {"train": self.train, "val": self.val}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "KeptFeatures":
        """As `tensors` gave them."""
        return cls(tensors["train"], tensors["val"])


def kept(means: Tensor) -> Tensor:
    """Mean features (N, D) as a model folder keeps them: of length 1, float16, on the CPU."""
    return normalize(means.float()).half().cpu()


def spread(rows: np.ndarray) -> np.ndarray:
    """At most IMAGES of these rows, evenly spread: the same ones each time."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), IMAGES)).round().astype(int)
    chosen: np.ndarray = rows[places]
    return chosen


class Detector:
    """Says which images are unlike the training images. The kept features must be of the same encoder."""

    def __init__(self, features: KeptFeatures) -> None:
        train = features.train.double()
        self._mean = train.mean(0)
        _, _, directions = torch.linalg.svd(train - self._mean, full_matrices=False)
        self._basis = directions[: min(train.shape) // _COMPONENTS].T  # (D, C)
        self.threshold = float(self.distances(features.val).quantile(_QUANTILE))

    def distances(self, means: Tensor) -> Tensor:
        """Mean features (B, D), of any length → (B,): squared distance to the principal subspace, 0 to 4."""
        centred = normalize(means.double().cpu()) - self._mean
        residuals: Tensor = centred.square().sum(1) - (centred @ self._basis).square().sum(1)
        return residuals

    def unlike(self, means: Tensor) -> Tensor:
        """Mean features (B, D) → (B,): whether each image is farther away than nearly all validation images."""
        return self.distances(means) > self.threshold

"""How unlike an image is to those that a model was trained on: out-of-distribution detection by image statistics.

A model folder keeps statistics of some training and validation images: colours, and how often pixels at several
distances are alike. The measure is the Mahalanobis distance to the training ones, with a shrunk covariance (Lee et al.
2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples", equation 2). No image of another kind is
needed to set it up: the threshold is a quantile over validation images. Statistics of pixels tell drawings,
photographs, noise and blank images apart more surely than the encoder's features do (benchmarks/README.md).

N training images, M validation images, B images, S side in pixels, K statistics.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = 512  # at most so many training images, and validation images, are kept
_LAGS = (1, 2, 4, 8, 16, 32, 64, 128)  # pixels from one to the other that it is compared with; below a side
_STRIDE = 2  # pixels from one pair to the next, where the lag is not shorter
_STEPS = (1, 3, 8, 16, 32, 64)  # of 255: smaller differences of two pixels are counted
_SHRINKAGE = 0.003  # how much of the identity is added to the correlation matrix
_LEAST = 1e-3  # of a deviation: a statistic in which training images hardly differ does not decide alone
_QUANTILE = 0.99  # of validation images, so many are like the training images


class KeptStatistics(NamedTuple):
    """Statistics, float32: of training images (N, K) and validation images (M, K)."""

    train: Any  # a tensor, or a NumPy array where torch is not loaded
    val: Any

    def are_of(self, side: int) -> bool:
        """Are they what `statistics` measures of images of this side? Those of older versions are other numbers."""
        return all(tuple(part.shape[1:]) == (width(side),) for part in self)

    def tensors(self) -> "dict[str, Tensor]":
        """By the names that the file in a model folder has."""
        return {"train": self.train, "val": self.val}

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> "KeptStatistics":
        """As `tensors` gave them."""
        return cls(tensors["train"], tensors["val"])


def spread(rows: np.ndarray) -> np.ndarray:
    """At most IMAGES of these rows, evenly spread: the same ones each time."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), IMAGES)).round().astype(int)
    selected: np.ndarray = rows[places]
    return selected


def width(side: int) -> int:
    """K, how many statistics an image of this side has."""
    return 6 + len(_STEPS) * len(_lags(side))


def statistics(pixels: "Tensor") -> "Tensor":
    """uint8 pixels (B, 3, S, S) → mean and deviation of each channel, and how often pixels are alike: (B, K).

    Two pixels of a row or a column are compared, at each of `_LAGS`. They are alike when no channel differs by as much
    as a step; each of `_STEPS` has a share of its own. A drawing has the same colour in places far apart, also when it
    was enlarged. A photograph hardly has.
    """
    import torch

    values = pixels.float()
    columns = [values.mean((2, 3)) / 255, values.std((2, 3)) / 255]
    for lag in _lags(values.shape[-1]):
        stride = min(lag, _STRIDE)
        across = _differences(values[:, :, ::stride], lag, stride)
        down = _differences(values.transpose(2, 3)[:, :, ::stride], lag, stride)
        difference = torch.cat([across, down], dim=1)  # (B, pairs)
        columns += [(difference < step).float().mean(1, keepdim=True) for step in _STEPS]
    return torch.cat(columns, dim=1).cpu()


def _lags(side: int) -> tuple[int, ...]:
    return tuple(lag for lag in _LAGS if lag < side)


def _differences(values: "Tensor", lag: int, stride: int) -> "Tensor":
    """Rows of pixels (B, 3, R, S) → the largest difference of a channel, of pixels that are `lag` apart: (B, pairs)."""
    return (values[..., lag::stride] - values[..., :-lag:stride]).abs().amax(1).flatten(1)


class Detector:
    """Detects images that are unlike the training images. Images must be read by the same transform."""

    def __init__(self, reference: KeptStatistics) -> None:
        train = np.asarray(reference.train, np.float64)
        self._mean = train.mean(0)
        self._deviation = train.std(0).clip(_LEAST)
        scaled = (train - self._mean) / self._deviation  # (N, K)
        self._correlation = scaled.T @ scaled / len(train) + _SHRINKAGE * np.eye(train.shape[1])
        self.threshold = float(np.quantile(self.distances(reference.val), _QUANTILE))

    def distances(self, values: Any) -> np.ndarray:
        """Statistics (B, K), an array or a tensor → squared Mahalanobis distances to the training images, (B,)."""
        scaled = (np.asarray(values, np.float64) - self._mean) / self._deviation
        distances: np.ndarray = (scaled * np.linalg.solve(self._correlation, scaled.T).T).sum(1)
        return distances

    def relative(self, values: Any) -> np.ndarray:
        """Statistics (B, K) → distances in thresholds, (B,): above 1, farther than nearly all validation images."""
        return self.distances(values) / max(self.threshold, 1e-12)

    def unlike(self, values: Any) -> np.ndarray:
        """Statistics (B, K) → whether each image is farther away than nearly all validation ones."""
        return self.distances(values) > self.threshold

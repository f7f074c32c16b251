"""The space of captions in which images are compared: a ridge regression maps an image's feature into it.

B images, D feature width, G kinds of n-gram, I images that are fitted to, S width of the space.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ORDER = 2  # longest n-grams of the space
LIKE = 20.0  # factor of the cosine of two images, as a logit of what the captions of one count for the other
_POWER_ITERATIONS = 3  # of the randomised singular value decomposition
_LEAST = 1e-6  # of a deviation: dead features of an encoder have none


class CaptionSpace(NamedTuple):
    """Where images are in the space of captions, by their features alone."""

    mean: Tensor  # (D,) of the features
    deviation: Tensor  # (D,)
    weight: Tensor  # (D, S)

    def place(self, features: Tensor) -> Tensor:
        """Features (B, D) → where the images are, of length 1: (B, S)."""
        return functional.normalize((features - self.mean) / self.deviation @ self.weight, dim=1)


def fit(features: Tensor, captions: Tensor, penalty: float) -> CaptionSpace:
    """Features (I, D), and where the captions of these images are (I, S) → the regression of one to the other."""
    deviation, mean = torch.std_mean(features, 0, correction=0)
    deviation = deviation.clamp(min=_LEAST)
    return CaptionSpace(mean, deviation, _ridge((features - mean) / deviation, captions, penalty))


def reduced(vectors: Tensor, width: int) -> Tensor:
    """Sparse (I, G) → its coordinates along the greatest singular vectors, U Σ: (I, S), with zeros beyond its rank.

    Randomised (Halko et al. 2011, algorithm 4.4).
    """
    rank = min(width, *vectors.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, singular, _ = torch.svd_lowrank(vectors, min(rank + 20, *vectors.shape), _POWER_ITERATIONS)
    return functional.pad((left * singular)[:, :rank], (0, width - rank))


def _ridge(inputs: Tensor, targets: Tensor, penalty: float) -> Tensor:
    """(XᵀX + λI)⁻¹ XᵀY of centred targets: X (I, D), Y (I, S) → (D, S). In double precision."""
    x, y = inputs.double(), targets.double()
    gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    solution: Tensor = torch.linalg.solve(gram, x.T @ (y - y.mean(0)))
    return solution.to(inputs.dtype)

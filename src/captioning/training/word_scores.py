"""How good tags are that are words: precision and recall, against what captions of the images say.

B images, K words.
"""

import torch
from torch import Tensor

from captioning.data.objects.words import MOST, SURE

FEW = 5  # words of an image in the scores that no threshold decides
_DIGITS = 4


def measure(likely: Tensor, truth: Tensor) -> dict[str, float]:
    """likely (B, K): how likely each word is, truth (B, K): whether it is in a caption of the image → scores.

    `precision_at_5` and `recall_at_5` are of the likeliest words. `average_precision` is the mean over words that are
    true of an image. `tags` is the mean number of tags, `without` the share of images that have none, and `precision`
    and `recall` are of the tags. Counts are summed over images before they are divided.
    """
    ranked = likely.sort(dim=1, descending=True, stable=True)
    right = truth.gather(1, ranked.indices)  # (B, K)
    tags = (ranked.values >= SURE) & (torch.arange(likely.shape[1]) < MOST)
    few = torch.zeros_like(tags)
    few[:, :FEW] = True
    measured = {
        "words": _share(truth.sum(), len(truth)),
        "precision_at_5": _share((right & few).sum(), few.sum()),
        "recall_at_5": _share((right & few).sum(), truth.sum()),
        "average_precision": _average_precision(likely, truth),
        "tags": _share(tags.sum(), len(tags)),
        "without": _share((tags.sum(1) == 0).sum(), len(tags)),
        "precision": _share((right & tags).sum(), tags.sum()),
        "recall": _share((right & tags).sum(), truth.sum()),
    }
    return {name: round(value, _DIGITS) for name, value in measured.items()}


def _share(part: Tensor, whole: Tensor | int) -> float:
    return float(part) / max(float(whole), 1.0)


def _average_precision(likely: Tensor, truth: Tensor) -> float:
    """The mean over words, each the mean precision at the images that it is true of; 0 where none is true of any."""
    known = truth.any(0)
    ranked = likely[:, known].sort(dim=0, descending=True, stable=True).indices
    right = truth[:, known].gather(0, ranked).double()
    precision = right.cumsum(0) / torch.arange(1, len(truth) + 1).unsqueeze(1)
    of_words = (precision * right).sum(0) / right.sum(0)
    return float(of_words.mean()) if len(of_words) else 0.0

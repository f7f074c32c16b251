"""How much scores vary with the test images and with the seeds: a paired bootstrap.

The test set is drawn again and again from its own images, with replacement, the same images for every system
(Efron and Tibshirani 1993; for corpus scores of translations Koehn 2004), and each draw is scored as the whole set is:
BLEU from the draw's own n-gram counts, the other scores as the mean of their images. CIDEr keeps the idf of the whole
set in every draw, as is usual: idf belongs to the score, not to the sample.

Where a setting was trained with several seeds, its seeds are drawn again as well, all but one of them with replacement
(Rao and Wu 1988): drawing as many as there are would make the spread over few seeds look too small by (n - 1) / n.

Axes: B draws of a block, R all draws, I images, M models, G groups (the models of one setting), N scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from captioning.metrics import bleu
from captioning.metrics.ngrams import ORDERS, Floats

DRAWS = 10_000
LEVEL = 0.95  # of every interval
_BLOCK = 1 << 21  # numbers of one block of draws (B * I): memory stays flat


@dataclass(frozen=True)
class Model:
    """A trained model's scores on each test image. All models that are compared have the same images, in one order.

    statistics: (I, bleu.STATISTICS). means: by name (I,), scores whose corpus value is the mean.
    """

    statistics: Floats
    means: Mapping[str, Floats]

    @property
    def names(self) -> list[str]:
        """The scores in the order of the axis N."""
        return [*(f"bleu_{order + 1}" for order in range(ORDERS)), *self.means]

    def columns(self) -> Floats:
        """All that is summed over images: (I, K)."""
        return np.column_stack([self.statistics, *self.means.values()])


def draw(groups: Sequence[Sequence[Model]], seed: int = 0, draws: int = DRAWS) -> Floats:
    """The scores of each group, the mean of its models, in each draw: (R, G, N).

    Takes time and memory for R * I numbers, but only some blocks of draws are held at once.
    """
    models = [model for group in groups for model in group]
    images, width = models[0].columns().shape
    columns = np.concatenate([model.columns() for model in models], axis=1)  # (I, M * K)
    sizes = [len(group) for group in groups]
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    parts = []
    for start in range(0, draws, block):
        count = min(block, draws - start)
        times = _times_drawn(random, count, images)  # (B, I)
        sums = (times @ columns).reshape(count, len(models), width)
        parts.append(_over_seeds(random, _scores(sums, images), sizes))
    return np.concatenate(parts)


def whole(groups: Sequence[Sequence[Model]]) -> list[Floats]:
    """The scores of each model on the whole test set: for each group (models of the group, N)."""
    return [np.stack([_scores(model.columns().sum(0), len(model.statistics)) for model in group]) for group in groups]


def _scores(sums: Floats, images: int) -> Floats:
    """Scores (..., N) of sums over images (..., K)."""
    statistics, means = sums[..., : bleu.STATISTICS], sums[..., bleu.STATISTICS :]
    return np.concatenate([bleu.bleu(statistics), means / images], axis=-1)


def _times_drawn(random: np.random.Generator, draws: int, images: int) -> Floats:
    """How often each image is in each draw: (B, I)."""
    indices = random.integers(0, images, (draws, images)) + images * np.arange(draws)[:, None]
    return np.bincount(indices.ravel(), minlength=draws * images).reshape(draws, images).astype(np.float64)


def _over_seeds(random: np.random.Generator, scores: Floats, sizes: Sequence[int]) -> Floats:
    """The mean of the models drawn from each group, of `sizes` models: (B, M, N) → (B, G, N)."""
    means = []
    for group in np.split(scores, np.cumsum(sizes)[:-1], axis=1):
        count = group.shape[1]
        if count == 1:
            means.append(group[:, 0])
        else:
            shares = random.multinomial(count - 1, [1 / count] * count, len(group)) / (count - 1)  # (B, models)
            means.append(np.einsum("bm,bmn->bn", shares, group))
    return np.stack(means, axis=1)


def interval(draws: Floats) -> Floats:
    """The percentile interval of `LEVEL` over the first axis: (R, ...) → (2, ...), low and high."""
    ends: Floats = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends


def p_values(differences: Floats) -> Floats:
    """Two-sided p of "no difference", by inverting the percentile interval: (R, ...) → (...).

    Twice the share of draws on the rarer side of zero, zeros on both, and one draw added so that it is never 0
    (Davison and Hinkley 1997): it is below 1 - LEVEL just when `interval` leaves zero out, but for that one draw.
    """
    rarer = np.minimum((differences <= 0).sum(0), (differences >= 0).sum(0))
    p: Floats = np.minimum(1.0, 2 * (rarer + 1) / (len(differences) + 1))
    return p


def holm(p: Floats) -> Floats:
    """p values of several comparisons, first axis, corrected together (Holm 1979)."""
    count = len(p)
    order = np.argsort(p, axis=0, kind="stable")
    factors = np.arange(count, 0, -1).reshape(-1, *[1] * (p.ndim - 1))
    stepped = np.maximum.accumulate(np.minimum(1.0, np.take_along_axis(p, order, 0) * factors), axis=0)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, stepped, 0)
    return corrected

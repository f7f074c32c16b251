"""Confidence: the probability that a caption is acceptable, calibrated on validation images.

Logistic regression (Platt 1999, "Probabilistic outputs for support vector machines") on what the search knows of a
caption and what the pixels say of the image. What "acceptable" means is kept with the numbers. An image that is
farther from the training images than nearly all validation images (`vision.features.unlikeness`) was in no
calibration: its confidence falls with the distance.

N captions, K inputs.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, FiniteFloat, TypeAdapter, ValidationError, with_config

from captioning.captioner.cards import CONFIDENCE
from captioning.system.errors import UserError
from captioning.system.sealed import read_document, write_document

FORMAT = 1
_RESTORE = "restore the model folder"
_STEPS, _RIDGE = 50, 1.0  # of Newton's method; what is added to the curvature, in captions
_NEAR = 2.0  # farther images count as this many thresholds in the regression: beyond it lies `_tail`


class Evidence(NamedTuple):
    """What is known of a caption: its log probability in nats, its words, and how far its image is from training ones.

    distance: in thresholds of the detector, so 1 is the limit; 0 where the model keeps no statistics.
    """

    log_probability: float
    words: int
    distance: float

    def inputs(self) -> tuple[float, ...]:
        """(K,): nats a word with `<eos>`, nats, words, and the distance up to `_NEAR`."""
        nats = max(self.log_probability, -1e4)
        return nats / (self.words + 1), nats, float(self.words), min(self.distance, _NEAR)


@with_config(ConfigDict(strict=True))
@dataclass(frozen=True)
class Calibration:
    """Weights of the regression. Inputs are centred by `means` and divided by `scales`; all have K numbers.

    acceptable: what a caption is that counts as acceptable, in words. images: how many it was fitted on.
    """

    means: tuple[FiniteFloat, ...]
    scales: tuple[FiniteFloat, ...]
    weights: tuple[FiniteFloat, ...]
    bias: FiniteFloat
    acceptable: str
    images: int

    def confidence(self, evidence: Evidence) -> float:
        """The probability, from 0 to 1, that the caption is acceptable."""
        scaled = (np.array(evidence.inputs()) - self.means) / self.scales
        logit = float(scaled @ np.array(self.weights)) + self.bias
        return _sigmoid(logit) * _tail(evidence.distance)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, logit))))


def _tail(distance: float) -> float:
    """How much of the confidence is left: all up to the threshold, then a factor of e less for each quarter of it."""
    return math.exp(min(0.0, 4 * (1 - distance)))


def fit(evidence: Sequence[Evidence], acceptable: Sequence[bool], meaning: str) -> Calibration:
    """Fit the regression by Newton's method, with a small ridge. Same input, same numbers.

    Images beyond the threshold are left out: `Calibration` lowers their confidence by a rule of its own.
    Raises ValueError when all captions are acceptable, or none is.
    """
    kept = [(one.inputs(), good) for one, good in zip(evidence, acceptable, strict=True) if one.distance <= 1]
    labels = np.array([good for _, good in kept], dtype=np.float64)
    if not 0 < labels.sum() < len(labels):
        raise ValueError(f"{int(labels.sum())} of {len(labels)} captions are acceptable: there must be some of both")
    inputs = np.array([row for row, _ in kept])  # (N, K)
    means, scales = inputs.mean(0), inputs.std(0)
    scales[scales < 1e-9] = 1.0
    weights, bias = _newton((inputs - means) / scales, labels)
    numbers = [tuple(map(float, values)) for values in (means, scales, weights)]
    return Calibration(numbers[0], numbers[1], numbers[2], bias, meaning, len(kept))


def _newton(inputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    columns = np.column_stack([inputs, np.ones(len(inputs))])  # (N, K + 1)
    ridge = _RIDGE * np.eye(columns.shape[1])
    ridge[-1, -1] = 0.0
    parameters = np.zeros(columns.shape[1])
    for _ in range(_STEPS):
        predicted = 1 / (1 + np.exp(-np.clip(columns @ parameters, -500, 500)))
        gradient = columns.T @ (predicted - labels) + ridge @ parameters
        curvature = (columns * (predicted * (1 - predicted))[:, None]).T @ columns + ridge
        step = np.linalg.solve(curvature, gradient)
        parameters -= step
        if np.abs(step).max() < 1e-10:
            break
    return parameters[:-1], float(parameters[-1])


class Reliability(NamedTuple):
    """How well confidences fit, over bins of equal width: a row is (mean confidence, share acceptable, captions).

    error: the expected calibration error (Guo et al. 2017, equation 3). brier: the mean squared error. auc: how often
    an acceptable caption has more confidence than another one (the area under the ROC curve).
    """

    rows: list[tuple[float, float, int]]
    error: float
    brier: float
    auc: float


def reliability(confidences: Sequence[float], acceptable: Sequence[bool], bins: int = 10) -> Reliability:
    """Compare confidences with what is acceptable. Empty bins have no row."""
    predicted, labels = np.array(confidences), np.array(acceptable, dtype=np.float64)
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    rows = [
        (float(predicted[places == place].mean()), float(labels[places == place].mean()), int((places == place).sum()))
        for place in range(bins)
        if (places == place).any()
    ]
    error = sum(count * abs(mean - share) for mean, share, count in rows) / len(labels)
    return Reliability(rows, error, float(((predicted - labels) ** 2).mean()), _auc(predicted, labels > 0))


def _auc(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The rank statistic of Mann and Whitney; ties count half. 0.5 where there is nothing to compare."""
    good, bad = predicted[labels], predicted[~labels]
    if not (len(good) and len(bad)):
        return 0.5
    differences = good[:, None] - bad[None, :]
    return float(((differences > 0) + 0.5 * (differences == 0)).mean())


_CALIBRATION = TypeAdapter(Calibration)


def write(folder: Path, calibration: Calibration) -> None:
    """Write the calibration into a model folder."""
    write_document(folder / CONFIDENCE, {"format": FORMAT, **asdict(calibration)})


def read(folder: Path) -> Calibration:
    """What `write` wrote. Raises UserError for anything else."""
    path = folder / CONFIDENCE
    value: dict[str, Any] = read_document(path, _RESTORE)
    if value.pop("format", None) != FORMAT:
        raise UserError(f"{path}: of another version of captioning; update this one, or {_RESTORE}")
    try:
        calibration = _CALIBRATION.validate_json(json.dumps(value))
    except ValidationError as fault:
        first = fault.errors()[0]
        raise UserError(f"{path}: damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); {_RESTORE}") from None
    if {len(calibration.means), len(calibration.scales), len(calibration.weights)} != {len(Evidence(0, 0, 0).inputs())}:
        raise UserError(f"{path}: damaged: another number of inputs; {_RESTORE}")
    return calibration

"""Calibrated confidence: the regression, what is far from the training images, and the file that keeps it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from captioning.captioner import confidence
from captioning.captioner.cards import CONFIDENCE
from captioning.captioner.confidence import Calibration, Evidence, fit, reliability
from captioning.system.errors import UserError

DRAWN = np.random.default_rng(5)


def captions(count: int) -> tuple[list[Evidence], list[bool]]:
    """Captions whose chance to be acceptable is a sigmoid of their log probability."""
    nats, words = DRAWN.uniform(-20, -2, count), DRAWN.integers(4, 14, count)
    chance = 1 / (1 + np.exp(-(nats + 10) / 2))
    evidence = [Evidence(float(x), int(w), 0.5) for x, w in zip(nats, words, strict=True)]
    return evidence, (DRAWN.random(count) < chance).tolist()


def test_confidence_is_calibrated_on_captions_that_were_not_fitted() -> None:
    calibration = fit(*captions(4000), "drawn")
    evidence, acceptable = captions(4000)
    measured = reliability([calibration.confidence(one) for one in evidence], acceptable)
    assert measured.error < 0.03
    assert measured.auc > 0.9
    assert sum(count for _, _, count in measured.rows) == 4000


def test_a_fit_is_the_maximum_of_its_likelihood() -> None:
    """No small step from the fitted numbers raises the likelihood, less the ridge."""
    evidence, acceptable = captions(300)
    found = fit(evidence, acceptable, "drawn")
    inputs = (np.array([one.inputs() for one in evidence]) - found.means) / found.scales
    labels = np.array(acceptable, dtype=float)

    def loss(numbers: np.ndarray) -> float:
        logits = inputs @ numbers[:-1] + numbers[-1]
        return float(np.logaddexp(0, logits).sum() - labels @ logits + 0.5 * (numbers[:-1] ** 2).sum())

    best = np.array([*found.weights, found.bias])
    steps = [sign * 1e-3 * row for row in np.eye(len(best)) for sign in (1, -1)]
    steps += list(1e-3 * DRAWN.normal(size=(50, len(best))))
    assert min(loss(best + step) for step in steps) > loss(best)


def test_an_image_far_from_the_training_images_has_a_low_confidence() -> None:
    calibration = fit(*captions(500), "drawn")
    near = calibration.confidence(Evidence(-2.0, 8, 0.9))
    assert near > 0.5
    assert calibration.confidence(Evidence(-2.0, 8, 4.0)) < 0.1
    assert calibration.confidence(Evidence(-2.0, 8, 1e9)) == 0
    far = [calibration.confidence(Evidence(-2.0, 8, distance)) for distance in (1, 1.5, 2, 3, 10)]
    assert far == sorted(far, reverse=True)


def test_images_beyond_the_threshold_take_no_part_in_the_fit() -> None:
    evidence, acceptable = captions(400)
    others = [Evidence(-1.0, 8, 5.0)] * 100
    assert fit(evidence + others, acceptable + [False] * 100, "drawn") == fit(evidence, acceptable, "drawn")


def test_a_caption_that_no_search_found_has_no_confidence() -> None:
    calibration = fit(*captions(500), "drawn")
    assert 0 <= calibration.confidence(Evidence(-math.inf, 0, 0.0)) < 0.01


@pytest.mark.parametrize("good", [True, False])
def test_captions_that_are_all_alike_cannot_be_fitted(good: bool) -> None:
    with pytest.raises(ValueError, match="there must be some of both"):
        fit(captions(50)[0], [good] * 50, "drawn")


def test_errors_of_calibration_by_hand() -> None:
    measured = reliability([0.05, 0.15, 0.95, 0.95], [False, True, True, False])
    expected = [(0.05, 0.0, 1), (0.15, 1.0, 1), (0.95, 0.5, 2)]
    assert all(row == pytest.approx(wanted) for row, wanted in zip(measured.rows, expected, strict=True))
    assert measured.error == pytest.approx((0.05 + 0.85 + 2 * 0.45) / 4)
    assert measured.brier == pytest.approx((0.05**2 + 0.85**2 + 0.05**2 + 0.95**2) / 4)
    assert measured.auc == pytest.approx((0 + 0.5 + 1 + 1) / 4)  # pairs: .15>.05, .15<.95, .95>.05, .95=.95
    assert reliability([1.0], [True]).auc == 0.5


def test_what_is_written_is_read_and_all_else_is_refused(tmp_path: Path) -> None:
    calibration = fit(*captions(100), "drawn")
    confidence.write(tmp_path, calibration)
    assert confidence.read(tmp_path) == calibration
    path = tmp_path / CONFIDENCE
    text = path.read_text()
    path.write_text(text.replace("drawn", "other"))
    with pytest.raises(UserError, match=r"confidence\.json: damaged"):
        confidence.read(tmp_path)
    longer = Calibration((*calibration.means, 0.0), calibration.scales, calibration.weights, 0.0, "drawn", 9)
    confidence.write(tmp_path, longer)
    with pytest.raises(UserError, match="another number of inputs"):
        confidence.read(tmp_path)
    path.write_text(json.dumps([]))
    with pytest.raises(UserError, match=r"confidence\.json"):
        confidence.read(tmp_path)

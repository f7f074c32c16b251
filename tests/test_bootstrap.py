"""The paired bootstrap: exact scores, no difference where there is none, and intervals that hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning import metrics
from captioning.experiments import bootstrap
from captioning.experiments.bootstrap import Model
from captioning.metrics import References, bleu
from tests.properties import examples

words = st.sampled_from(["dog", "cat", "man", "runs", "sits", "red", "the", "on", "grass"])
captions = st.lists(words, max_size=8).map(" ".join)
images = st.lists(
    st.tuples(captions, captions, st.lists(captions, min_size=1, max_size=3)), min_size=1, max_size=8
).map(lambda rows: dict(enumerate(rows)))
BLEU = ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]
few = examples(30)


def model(references: dict[int, list[str]], hypotheses: dict[int, str]) -> Model:
    prepared = References(references)
    per_image = prepared.score(hypotheses).per_image
    means = {name: np.array(list(per_image[name].values())) for name in ("rouge_l", "cider")}
    return Model(prepared.bleu_statistics(hypotheses), means)


def pair(rows: dict[int, tuple[str, str, list[str]]]) -> tuple[Model, Model]:
    references = {k: row[2] for k, row in rows.items()}
    return tuple(model(references, {k: row[side] for k, row in rows.items()}) for side in (0, 1))


def simulated(values: np.ndarray) -> Model:
    """A model with one score, given image by image, and BLEU of nothing."""
    return Model(np.zeros((len(values), bleu.STATISTICS)), {"cider": values})


@few
@given(images)
def test_the_whole_set_scores_exactly_what_metrics_score_gives(rows: dict) -> None:
    references, hypotheses = {k: row[2] for k, row in rows.items()}, {k: row[0] for k, row in rows.items()}
    scores = metrics.score(references, hypotheses).corpus
    [[whole]] = bootstrap.whole([[model(references, hypotheses)]])
    assert dict(zip(BLEU, whole, strict=False)) == {name: scores[name] for name in BLEU}
    assert whole[4:] == pytest.approx([scores["rouge_l"], scores["cider"]])


@few
@given(images, st.integers(0, 99))
def test_bleu_of_a_draw_is_corpus_bleu_of_its_images(rows: dict, seed: int) -> None:
    """The images of each draw, written out as a corpus of their own, and scored by `metrics.score`."""
    drawn = bootstrap.draw([[pair(rows)[0]]], seed, draws=5)
    times = bootstrap._times_drawn(np.random.default_rng(seed), 5, len(rows)).astype(int)
    assert times.sum(1).tolist() == [len(rows)] * 5
    for scores, counts in zip(drawn[:, 0], times, strict=True):
        corpus = [row for k, row in rows.items() for _ in range(counts[k])]
        expected = metrics.score(
            {k: row[2] for k, row in enumerate(corpus)}, {k: row[0] for k, row in enumerate(corpus)}
        ).corpus
        assert scores[:4].tolist() == [expected[name] for name in BLEU]


@few
@given(images)
def test_a_model_does_not_differ_from_itself(rows: dict) -> None:
    one, _ = pair(rows)
    drawn = bootstrap.draw([[one], [one]], draws=40)
    difference = drawn[:, 1] - drawn[:, 0]
    assert not difference.any()
    assert bootstrap.p_values(difference).tolist() == [1.0] * 6


@few
@given(images)
def test_exchanging_two_models_turns_the_difference_over(rows: dict) -> None:
    one, two = pair(rows)
    there, back = bootstrap.draw([[one], [two]], draws=40), bootstrap.draw([[two], [one]], draws=40)
    np.testing.assert_array_equal(there, back[:, ::-1])
    difference = there[:, 1] - there[:, 0]
    assert bootstrap.p_values(difference).tolist() == bootstrap.p_values(-difference).tolist()
    low, high = bootstrap.interval(difference)
    assert (-bootstrap.interval(-difference)[::-1]).tolist() == [pytest.approx(low), pytest.approx(high)]


def test_blocks_of_draws_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=(2, 50))
    groups = [[simulated(row)] for row in values]
    whole = bootstrap.draw(groups, draws=64)
    monkeypatch.setattr(bootstrap, "_BLOCK", 50 * 7)
    np.testing.assert_allclose(bootstrap.draw(groups, draws=64), whole)


def coverage(trials: int, groups_of: int, spread: float) -> float:
    """How often the interval holds the true difference .2 between two settings, over simulated trainings.

    200 images that are harder or easier for everyone; models of `groups_of` seeds whose mean varies by `spread`.
    """
    random = np.random.default_rng(5)
    held = 0
    for trial in range(trials):
        hard = random.normal(size=200)
        groups = [
            [simulated(hard + mean + spread * random.normal() + random.normal(size=200)) for _ in range(groups_of)]
            for mean in (0.0, 0.2)
        ]
        drawn = bootstrap.draw(groups, seed=trial, draws=300)[:, :, 4]
        low, high = bootstrap.interval(drawn[:, 1] - drawn[:, 0])
        held += low <= 0.2 <= high
    return held / trials


def test_intervals_hold_a_known_difference_at_about_the_promised_rate() -> None:
    assert 0.91 <= coverage(300, groups_of=1, spread=0.0) <= 0.98


def test_drawing_seeds_covers_what_drawing_images_alone_does_not() -> None:
    """Six seeds a setting, whose means vary four times as much as the luck of 200 images."""
    assert 0.88 <= coverage(200, groups_of=6, spread=0.4) <= 0.98
    assert coverage(200, groups_of=1, spread=0.4) < 0.6


def test_the_spread_over_seeds_is_not_made_smaller_by_drawing_few() -> None:
    """The variance of a mean over n seeds is s² / n; plain drawing of n of n would give (n - 1) / n of it."""
    seeds = np.array([0.0, 1.0, 5.0])
    drawn = bootstrap.draw([[simulated(np.full(10, value)) for value in seeds]], draws=20_000)[:, 0, 4]
    assert drawn.var() == pytest.approx(seeds.var(ddof=1) / 3, rel=0.05)
    assert drawn.mean() == pytest.approx(seeds.mean(), rel=0.05)


def test_p_and_interval_agree() -> None:
    random = np.random.default_rng(1)
    for centre in np.linspace(0, 4, 33):
        draws = random.normal(centre, 1, 999)
        low, high = bootstrap.interval(draws)
        if abs(min(abs(low), abs(high))) > 0.02:  # but for the draw that is added
            assert (bootstrap.p_values(draws) < 0.05) == (not low <= 0 <= high)


def test_holm_by_hand() -> None:
    p = np.array([[0.01, 0.3], [0.04, 0.02], [0.03, 0.9]])
    np.testing.assert_allclose(bootstrap.holm(p), [[0.03, 0.6], [0.06, 0.06], [0.06, 0.9]])
    np.testing.assert_allclose(bootstrap.holm(np.array([[0.2], [0.7]])), [[0.4], [0.7]])

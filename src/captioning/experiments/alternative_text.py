"""What a suite's chart shows, in words: the alternative text of the image, for who cannot see it."""

import re
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from captioning.experiments.suites import Suite
from captioning.experiments.verdicts import NAMES

if TYPE_CHECKING:
    from captioning.experiments.results import Result, Results


TITLES = NAMES | {"true_captions": "all true"}
"""Scores as a person reads them."""


def score_name(suite: Suite) -> str:
    """The score that a suite's chart shows: the first of true captions and CIDEr that the suite has, else its first."""
    return next((name for name in ("true_captions", "cider") if name in suite.scores), suite.scores[0])


def score_title(suite: Suite) -> str:
    """That score as a person reads it."""
    name = score_name(suite)
    return f"{TITLES.get(name, name)} on test"


def varied(suite: Suite) -> str | None:
    """The setting in which the runs of a suite differ, if it is one; seeds are not counted."""
    keys = {key for run in suite.runs for key in run.overrides} - {"seed"}
    differ = [key for key in keys if len({run.overrides.get(key) for run in suite.runs}) > 1]
    return differ[0] if len(differ) == 1 else None


def values_of(runs: Sequence["Result"], label: str, name: str) -> list[float]:
    """A score of each run of a label, a seed each."""
    return [run.scores[name] for run in runs if run.label == label and name in run.scores]


def alternative(suite: Suite, results: "Results") -> str:
    """Each label's score, its mean over seeds, with its interval if there is one, and which label has the highest."""
    name = score_name(suite)
    values = {label: values_of(results.runs, label, name) for label in suite.labels}
    means = {label: statistics.mean(scores) for label, scores in values.items() if scores}
    if not means:
        return f"{score_title(suite)}: no run has it"
    key = varied(suite)
    parts = [f"{label}: {mean:.3f}{_interval(results, label, name)}" for label, mean in means.items()]
    if len(means) > 1:
        parts.append(f"highest: {max(means, key=lambda label: means[label])}")
    return f"{score_title(suite)}{f' by {key}' if key else ''}. {'; '.join(parts)}"


def _interval(results: "Results", label: str, name: str) -> str:
    ends = results.intervals.get(label, {}).get(name)
    return f" (95 % interval {ends[0]:.3f} to {ends[1]:.3f})" if ends else ""


def markdown(suite: Suite, results: "Results") -> str:
    """The alternative text on one line, as it stands between `![` and `]`."""
    return re.sub(r"([\\\[\]])", r"\\\1", " ".join(alternative(suite, results).split()))

"""Scores of captions that any program wrote, with intervals and a signature; several files are compared pairwise.

Axes as in `bootstrap`: R draws, G files, N scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captioning.experiments import bootstrap, outside, verdicts
from captioning.experiments.compare import Difference, Score
from captioning.metrics import NAMES, References
from captioning.metrics.signature import signature
from captioning.system.errors import UserError, reworded

_MEANS = ("rouge_l", "cider")


@dataclass(frozen=True)
class Scored:
    """Scores of files of captions by name, and the differences of the files after the first from it."""

    signature: str
    images: int
    scores: dict[str, dict[str, Score]]
    differences: dict[str, dict[str, Difference]]


def score(references: Path, files: list[Path], *, seed: int = 0, draws: int = bootstrap.DRAWS) -> Scored:
    """Score files of captions against a file of references. Raises UserError as `outside` does.

    The p values of one score are corrected over the files (Holm). seed: of the bootstrap.
    """
    names = [str(path) for path in files]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{twice[0]}: named twice; name each file once")
    known = outside.read_references(references)
    captions = [outside.read_captions(path, known) for path in files]
    with reworded(lambda text: f"{references}: {text}"):
        prepared = References(known.captions)
    models = [_model(prepared, one) for one in captions]
    drawn = bootstrap.draw([[model] for model in models], seed, draws)  # (R, G, N)
    values = np.stack([own[0] for own in bootstrap.whole([[model] for model in models])])  # (G, N)
    return Scored(
        signature(known.captions),
        len(known.captions),
        dict(zip(names, _scores(models[0].names, values, drawn), strict=True)),
        dict(zip(names[1:], _differences(models[0].names, values, drawn), strict=True)),
    )


def _model(prepared: References[str], captions: Mapping[str, str]) -> bootstrap.Model:
    scores = prepared.score(captions).per_image
    means = {name: np.array([scores[name][image] for image in captions]) for name in _MEANS}
    return bootstrap.Model(prepared.bleu_statistics(captions), means)


def _scores(names: list[str], values: Any, drawn: Any) -> list[dict[str, Score]]:
    low, high = bootstrap.interval(drawn)  # (G, N) each
    return [
        {name: Score(float(values[g, n]), None, float(low[g, n]), float(high[g, n])) for n, name in enumerate(names)}
        for g in range(len(values))
    ]


def _differences(names: list[str], values: Any, drawn: Any) -> list[dict[str, Difference]]:
    between = drawn[:, 1:] - drawn[:, :1]
    if not between.shape[1]:
        return []
    p, (low, high) = bootstrap.holm(bootstrap.p_values(between)), bootstrap.interval(between)
    return [
        {
            name: Difference(
                float(values[g + 1, n] - values[0, n]), float(low[g, n]), float(high[g, n]), float(p[g, n])
            )
            for n, name in enumerate(names)
        }
        for g in range(len(values) - 1)
    ]


def rows(scored: Scored) -> list[list[str]]:
    """Scores with their intervals as a table with its head, two rows a file."""
    first = next(iter(scored.scores.values()))
    found = [["", *(NAMES[name] for name in first)]]
    for name, scores in scored.scores.items():
        found.append([name, *(f"{one.value:.4f}" for one in scores.values())])
        found.append(["  95 % interval", *(f"{one.low:.3f}-{one.high:.3f}" for one in scores.values())])
    return found


def difference_rows(scored: Scored) -> list[list[str]]:
    """Differences from the first file as a table with its head; empty with one file. `*`: shown."""
    if not scored.differences:
        return []
    first = next(iter(scored.scores))
    found = [["", "", "difference", "95 % interval", "p"]]
    for name, differences in scored.differences.items():
        for metric, one in differences.items():
            span = f"{one.low:+.4f} to {one.high:+.4f}"
            mark = " *" if one.shown else ""
            value = f"{one.value:+.4f}{mark}"
            found.append([f"{name} − {first}", NAMES[metric], value, span, verdicts.p_text(one.p)])
    return found


def notes(scored: Scored) -> list[str]:
    """What the intervals are, and the signature."""
    lines = [f"Intervals: paired bootstrap over {scored.images:,} images, {bootstrap.DRAWS:,} draws."]
    if scored.differences:
        lines[0] += " p: two-sided, corrected over files (Holm), not over scores. *: p below .05."
    return [*lines, f"Signature: {scored.signature}"]


def document(scored: Scored) -> dict[str, Any]:
    """All of it as a JSON document."""
    return {
        "signature": scored.signature,
        "images": scored.images,
        "scores": {file: {name: vars(one) for name, one in own.items()} for file, own in scored.scores.items()},
        "differences": {
            file: {name: vars(one) | {"shown": one.shown} for name, one in own.items()}
            for file, own in scored.differences.items()
        },
    }

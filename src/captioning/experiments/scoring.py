"""Scores of captions that any program wrote, with intervals and a signature; several files are compared pairwise.

Axes as in `bootstrap`: R draws, G files, N scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from captioning.experiments import bootstrap, outside, verdicts
from captioning.experiments.compare import Difference, Score
from captioning.metrics import NAMES, References
from captioning.metrics.signature import signature
from captioning.system.errors import UserError, reworded

_MEANS = ("rouge_l", "cider")


class Further(Protocol):
    """Scores beside BLEU, ROUGE-L and CIDEr, whose corpus value is the mean over images."""

    titles: Mapping[str, str]
    """How people write each score."""

    signature: str
    """What they depend on beside the captions."""

    def score(
        self, references: Mapping[str, Sequence[str]], captions: Mapping[str, str], images: Any, /
    ) -> dict[str, dict[str, float]]:
        """Each score of each image's caption. images: what opens each image."""


@dataclass(frozen=True)
class Scored:
    """Scores of files of captions by name, and the differences of the files after the first from it.

    titles: how people write each score.
    """

    signature: str
    titles: Mapping[str, str]
    images: int
    scores: dict[str, dict[str, Score]]
    differences: dict[str, dict[str, Difference]]


def score(
    references: Path,
    files: list[Path],
    *,
    further: Sequence[Further] = (),
    images: Callable[[outside.ReferenceFile], Any] = lambda _: {},
    seed: int = 0,
    draws: int = bootstrap.DRAWS,
) -> Scored:
    """Score files of captions against a file of references. Raises UserError as `outside` does.

    The p values of one score are corrected over the files (Holm). further: scores beside the usual ones. images: for
    these, what opens each image. seed: of the bootstrap.
    """
    names = [str(path) for path in files]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UserError(f"{repeated[0]}: named twice; name each file once")
    reference_file = outside.read_references(references)
    captions = [outside.read_captions(path, reference_file) for path in files]
    with reworded(lambda text: f"{references}: {text}"):
        prepared = References(reference_file.captions)
    opened = images(reference_file) if further else {}
    extra = [
        {name: of for one in further for name, of in one.score(reference_file.captions, said, opened).items()}
        for said in captions
    ]
    models = [_model(prepared, *one) for one in zip(captions, extra, strict=True)]
    drawn = bootstrap.draw([[model] for model in models], seed, draws)  # (R, G, N)
    values = np.stack([scores[0] for scores in bootstrap.whole([[model] for model in models])])  # (G, N)
    return Scored(
        "|".join([signature(reference_file.captions), *(one.signature for one in further)]),
        NAMES | {name: title for one in further for name, title in one.titles.items()},
        len(reference_file.captions),
        dict(zip(names, _scores(models[0].names, values, drawn), strict=True)),
        dict(zip(names[1:], _differences(models[0].names, values, drawn), strict=True)),
    )


def _model(
    prepared: References[str], captions: Mapping[str, str], extra: Mapping[str, Mapping[str, float]]
) -> bootstrap.Model:
    scores = prepared.score(captions).per_image
    listed = {name: scores[name] for name in _MEANS} | dict(extra)
    means = {name: np.array([of[image] for image in captions]) for name, of in listed.items()}
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
    table = [["", *(scored.titles[name] for name in first)]]
    for name, scores in scored.scores.items():
        table.append([name, *(f"{score.value:.4f}" for score in scores.values())])
        table.append(["  95 % interval", *(f"{score.low:.3f}-{score.high:.3f}" for score in scores.values())])
    return table


def difference_rows(scored: Scored) -> list[list[str]]:
    """Differences from the first file as a table with its head; empty with one file. `*`: shown."""
    if not scored.differences:
        return []
    first = next(iter(scored.scores))
    table = [["", "", "difference", "95 % interval", "p"]]
    for name, differences in scored.differences.items():
        for metric, difference in differences.items():
            span = f"{difference.low:+.4f} to {difference.high:+.4f}"
            mark = " *" if difference.shown else ""
            value = f"{difference.value:+.4f}{mark}"
            table.append([f"{name} − {first}", scored.titles[metric], value, span, verdicts.p_text(difference.p)])
    return table


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
        "scores": {file: {name: vars(value) for name, value in named.items()} for file, named in scored.scores.items()},
        "differences": {
            file: {name: vars(value) | {"shown": value.shown} for name, value in named.items()}
            for file, named in scored.differences.items()
        },
    }

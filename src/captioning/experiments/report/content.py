"""What the report's scripts draw from: curves, and for each image its captions, references and scores."""

from collections.abc import Sequence
from typing import Any

from captioning.experiments import recorded
from captioning.experiments.compare import Experiment
from captioning.experiments.outside import CaptionFile
from captioning.experiments.report import objects
from captioning.experiments.report.gallery import Gallery, sheets, shuffled
from captioning.experiments.revisions import Revision
from captioning.experiments.verdicts import NAMES
from captioning.metrics.words import unknown_words
from captioning.system import scripts

CURVES = "data/train/plots/metrics"
_CHARTS: dict[str, dict[str, str]] = {  # title: which file is which part of it
    "Caption loss": {"training": "train/loss/caption", "validation": "val/loss/caption"},
    "Validation CIDEr": {"": "val/cider"},
    "Validation BLEU-4": {"": "val/bleu_4"},
    "Validation ROUGE-L": {"": "val/rouge_l"},
    "Reward of sampled captions": {"": "train/reward/sample"},
    "Gradient norm": {"": "train/gradient_norm/all"},
    "Learning rate": {"": "train/lr"},
}


def document(experiments: Sequence[Experiment], selected: Sequence[int], seed: int) -> dict[str, Any]:
    """All of it, for JSON. selected: the COCO ids of the images that are shown, of which `seed` drew some."""
    shared = [name for name in experiments[0].model.means if all(name in e.model.means for e in experiments)]
    return {
        "experiments": [{"name": experiment.revision.name} for experiment in experiments],
        "charts": charts([experiment.revision for experiment in experiments]),
        "scores": [NAMES[name] for name in reversed(shared)],  # CIDEr first
        "images": _images(experiments, shared[::-1], selected, seed),
    }


def charts(revisions: Sequence[Revision | CaptionFile]) -> list[dict[str, Any]]:
    """The curves that the revisions have, a chart a kind: title and series, each with points (epoch from 1, value)."""
    trained = {k: one for k, one in enumerate(revisions) if isinstance(one, Revision)}
    curve_files = {k: set(revision.names(CURVES)) for k, revision in trained.items()}
    titled = []
    for title, parts in _CHARTS.items():
        series = [
            {"experiment": k, "part": part, "points": _points(revision, path)}
            for k, revision in trained.items()
            for part, name in parts.items()
            if (path := f"{CURVES}/{name}.tsv") in curve_files[k]
        ]
        if series := [curve for curve in series if curve["points"]]:
            titled.append({"title": title, "series": series})
    return titled


def _points(revision: Revision, path: str) -> list[tuple[int, float]]:
    """The epochs, from 1, and values of one of DVCLive's tables; what diverged (nan, inf) has no place on a chart."""
    points = recorded.curve(revision, path)
    return [(epoch, value) for epoch, value in points if abs(value) < float("inf")]


def _images(
    experiments: Sequence[Experiment], names: Sequence[str], selected: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    if not selected:
        return []
    first = experiments[0]
    row = {image: k for k, image in enumerate(first.references)}
    order = {image: k for k, image in enumerate(shuffled(list(first.references), seed))}
    attention = [sheets(experiment, selected) for experiment in experiments]
    read = [objects.read(experiment, selected) for experiment in experiments]
    assert isinstance(first.revision, Revision)  # files stand behind revisions
    with Gallery(first.revision) as gallery:
        return [
            {
                "file": first.files[image],
                "order": order[image],
                "thumbnail": gallery.thumbnail(first.files[image]),
                "captions": [experiment.captions[image] for experiment in experiments],
                "words": [scripts.split(experiment.captions[image]) for experiment in experiments],
                "unknown": unknown_words(first.references[image], [e.captions[image] for e in experiments]),
                "scores": [[round(float(e.model.means[name][row[image]]), 4) for e in experiments] for name in names],
                "references": first.references[image],
                "sheets": [sheet.get(image) for sheet in attention],
                "objects": [one.get(image) for one in read],
            }
            for image in selected
        ]

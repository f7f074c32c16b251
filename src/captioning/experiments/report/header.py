"""The head of the report: which data set, models, commits and the command; `header.html` gives it its form."""

from collections.abc import Sequence
from dataclasses import dataclass

from captioning.experiments.compare import Comparison, Experiment
from captioning.experiments.outside import CaptionFile
from captioning.experiments.revisions import WORKSPACE, Revision

_SETTINGS = {"dataset": "Data set", "encoder": "Encoder", "decoder": "Decoder"}


@dataclass(frozen=True)
class Value:
    """Text, what is to be shown as code, text after it, and whose value this is."""

    text: str = ""
    code: str = ""
    after: str = ""
    owner: str = ""


def facts(comparison: Comparison, command: str) -> list[tuple[str, list[Value]]]:
    """Names and values; where experiments differ in one, there are several values, each with whose it is."""
    experiments = [experiment for group in comparison.groups for experiment in group.experiments]
    trained = [experiment for experiment in experiments if isinstance(experiment.revision, Revision)]
    return [
        *((title, _values(trained, key)) for key, title in _SETTINGS.items()),
        ("Test images", [Value(f"{len(comparison.images):,}")]),
        ("Commit", [_commit(experiment.revision, alone=len(experiments) == 1) for experiment in experiments]),
        ("Made by", [Value(code=command)]),
    ]


def _values(experiments: Sequence[Experiment], key: str) -> list[Value]:
    values = [str(experiment.settings.get(key, "not recorded")) for experiment in experiments]
    if len(set(values)) == 1:
        return [Value(values[0])]
    return [Value(value, owner=e.revision.name) for value, e in zip(values, experiments, strict=True)]


def _commit(revision: Revision | CaptionFile, *, alone: bool) -> Value:
    """Its digits and day; of the workspace, those of its last commit. Of a file, its digest."""
    if isinstance(revision, CaptionFile):
        return Value(
            "captions by another program, ", revision.path.name, f", SHA-256 {revision.sha256[:12]}…", revision.name
        )
    owner = "" if revision.name == revision.short and alone else revision.name
    if revision.commit is None:
        return Value("none: no git history", owner=owner)
    digits, day = revision.commit
    return Value("files on top of " if revision.sha == WORKSPACE else "", digits, f", {day}", owner)

"""The head of the report: which data set, models, commits and the command, as HTML. All of it is escaped."""

from collections.abc import Iterator, Sequence
from html import escape

from captioning.experiments.compare import Comparison, Experiment
from captioning.experiments.revisions import WORKSPACE, Revision

_SETTINGS = {"dataset": "Data set", "encoder": "Encoder", "decoder": "Decoder"}


def facts(comparison: Comparison, command: str) -> str:
    """A list of names and values; where experiments differ in one, each value is followed by whose it is."""
    experiments = [experiment for group in comparison.groups for experiment in group.experiments]
    rows = [(title, _values(experiments, key)) for key, title in _SETTINGS.items()]
    rows += [
        ("Test images", f"{len(comparison.images):,}"),
        ("Commit", "<br>".join(_commits(experiments))),
        ("Made by", f"<code>{escape(command)}</code>"),
    ]
    return f"<dl class=facts>{''.join(f'<div><dt>{title}</dt><dd>{value}</dd></div>' for title, value in rows)}</dl>"


def _values(experiments: Sequence[Experiment], key: str) -> str:
    values = [escape(str(experiment.settings.get(key, "not recorded"))) for experiment in experiments]
    if len(set(values)) == 1:
        return values[0]
    names = [escape(experiment.revision.name) for experiment in experiments]
    return "<br>".join(f"{value} <small>{name}</small>" for value, name in zip(values, names, strict=True))


def _commits(experiments: Sequence[Experiment]) -> Iterator[str]:
    for experiment in experiments:
        revision = experiment.revision
        name = "" if revision.name == revision.short and len(experiments) == 1 else escape(revision.name)
        yield f"{_commit(revision)}{f' <small>{name}</small>' if name else ''}"


def _commit(revision: Revision) -> str:
    """Its digits and day; of the workspace, those of the commit below what lies there."""
    if revision.commit is None:
        return "none: no git history"
    digits, day = revision.commit
    return f"{'files on top of ' if revision.sha == WORKSPACE else ''}<code>{digits}</code>, {day}"

"""What is in the tables of the report, row by row; `tables.html` gives it its form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from captioning.experiments.compare import Comparison, Difference, Experiment, Score, baselines, changed
from captioning.experiments.outside import CaptionFile
from captioning.experiments.revisions import Revision
from captioning.experiments.verdicts import NAMES, p_text

_SYSTEMS = {  # rows of baselines.json that are no model
    "floor": "constant-caption baseline",
    "human": "human baseline",
}


@dataclass(frozen=True)
class Cell:
    """A score of a row; None where the row has none. CIDEr, last in the table, comes first where a row is a card."""

    title: str
    is_cider: bool
    score: Score | float | None
    difference: Difference | None = None


@dataclass(frozen=True)
class Row:
    """The scores of a group, or of what is no model. mark: the number of the experiment's mark, if it has one."""

    title: str
    cells: list[Cell]
    mark: int | None = None
    is_first: bool = False


@dataclass(frozen=True)
class Scores:
    """The table of scores: the heads of its columns, a row a group, and a row a system that is no model."""

    names: list[str]
    groups: list[Row]
    systems: list[Row]


def scores(comparison: Comparison) -> Scores:
    """Scores with their intervals, and beside them the difference from the first group."""
    names = list(comparison.scores[0])
    marks = iter(_marks(comparison))
    groups = []
    for g, (group, by_name) in enumerate(zip(comparison.groups, comparison.scores, strict=True)):
        differences = comparison.differences[g - 1] if g else {}
        cells = [_cell(name, by_name[name], differences.get(name)) for name in names]
        groups.append(Row(group.name, cells, next(marks), is_first=g == 0 and len(comparison.groups) > 1))
    first = comparison.groups[0].experiments[0].revision
    systems = [] if isinstance(first, CaptionFile) else _systems(baselines(first), names)
    return Scores([NAMES[name] for name in names], groups, list(systems))


def _cell(name: str, score: Score | float | None, difference: Difference | None = None) -> Cell:
    return Cell(NAMES[name], name == "cider", score, difference)


def _marks(comparison: Comparison) -> Iterator[int | None]:
    """The mark of each group, that of its experiment; none of several seeds, whose marks differ."""
    position = 0
    for group in comparison.groups:
        yield position if len(group.experiments) == 1 else None
        position += len(group.experiments)


def _systems(baselines: Mapping[str, Mapping[str, float]], names: list[str]) -> Iterator[Row]:
    """What no model scores: one caption for all images, and a person."""
    for key, title in _SYSTEMS.items():
        if scores := baselines.get(key):
            yield Row(title, [_cell(name, scores.get(name)) for name in names])


@dataclass(frozen=True)
class Compared:
    """A score of two groups. reach: the largest end of an interval of this score in any group, for drawing."""

    title: str
    difference: Difference
    p: str
    scale: float


def differences(comparison: Comparison) -> list[tuple[str, list[Compared]]]:
    """Each group's name and its differences from the first; nothing of one group alone."""
    others = comparison.groups[1:]
    scales = {
        name: max(max(abs(end) for end in (d[name].low, d[name].high)) for d in comparison.differences) or 1.0
        for name in (comparison.scores[0] if others else [])
    }  # a scale a score, the same in all groups
    return [
        (group.name, [Compared(NAMES[name], d, p_text(d.p), scales[name]) for name, d in by_name.items()])
        for group, by_name in zip(others, comparison.differences, strict=True)
    ]


@dataclass(frozen=True)
class Value:
    """The value of a setting, as text; None: it is empty. there: does the experiment have such a setting?"""

    text: str | None
    exists: bool = True


@dataclass(frozen=True)
class Settings:
    """Settings in which groups differ: names of the groups, a row a key with a value for each group.

    code: for each group, the source files that differ from the first group's; None: no group's do.
    """

    names: list[str]
    rows: list[tuple[str, list[Value]]]
    code: list[list[str]] | None


def differing(comparison: Comparison) -> Settings:
    """The settings in which groups differ, but for groups of a file, which have none."""
    groups = [group for group in comparison.groups if isinstance(group.experiments[0].revision, Revision)]
    experiments = [group.experiments[0] for group in groups]
    first = experiments[0]
    keys = dict.fromkeys(key for other in experiments[1:] for key in changed(first, other))
    rows = [(key, [_value(e.settings.get(key), key in e.settings) for e in experiments]) for key in keys]
    code = [_other_code(first.code, experiment.code) for experiment in experiments]
    return Settings([group.name for group in groups], rows, code if any(code) else None)


def sections(experiment: Experiment) -> list[tuple[str, list[tuple[str, Value]]]]:
    """All settings, by section of params.yaml, sorted; the first has no name and what has no section."""
    by_section: dict[str, list[tuple[str, Value]]] = {}
    for key, value in sorted(experiment.settings.items(), key=lambda item: item[0]):
        section, _, name = key.rpartition(".") if "." not in key else key.partition(".")
        by_section.setdefault(section, []).append((name, _value(value)))
    return sorted(by_section.items())


def _value(value: Any, exists: bool = True) -> Value:
    return Value(None if value is None else _plain(value), exists)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _other_code(first: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]

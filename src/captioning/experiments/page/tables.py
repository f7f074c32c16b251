"""The tables of the report, as HTML. Everything in them is escaped."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from captioning.experiments.compare import Comparison, Difference, Experiment, Score, baselines, changed
from captioning.experiments.verdicts import NAMES, p_text

_WIDTH, _HEIGHT = 180, 26  # of a drawn interval, in its own units
_SYSTEMS = {  # rows of baselines.json that are no model
    "floor": "constant-caption baseline",
    "human": "human baseline",
}


def scores(comparison: Comparison) -> str:
    """Scores with their intervals, a row a group; the better and the worse than the first in words."""
    names = list(comparison.scores[0])
    marks = iter(_marks(comparison))
    rows = []
    for g, group in enumerate(comparison.groups):
        differences = comparison.differences[g - 1] if g else {}
        cells = [_score(name, comparison.scores[g][name], differences.get(name)) for name in names]
        base = "<small>what the others are compared with</small>" if g == 0 and len(comparison.groups) > 1 else ""
        title = f"<th scope=row role=rowheader{next(marks)}>{escape(group.name)}{base}</th>"
        rows.append(f"<tr role=row>{title}{''.join(cells)}</tr>")
    head = "".join(f"<th scope=col>{NAMES[name]}</th>" for name in names)
    rows += _systems(baselines(comparison.groups[0].experiments[0].revision), names)
    return _table(f"<th scope=col>Experiment</th>{head}", rows, "cards-if-narrow")


def _marks(comparison: Comparison) -> Iterator[str]:
    """The mark of each group, that of its experiment; none of several seeds, whose marks differ."""
    place = 0
    for group in comparison.groups:
        yield f" data-mark={place}" if len(group.experiments) == 1 else ""
        place += len(group.experiments)


def _score(name: str, score: Score, difference: Difference | None) -> str:
    spread = "" if score.spread is None else f"<small>± {score.spread:.3f} over seeds</small>"
    word = ""
    if difference is not None:
        said = ("better" if difference.value > 0 else "worse") if difference.shown else ""
        word = f"<small class={said}>{said}</small>" if said else "<small>not shown to differ</small>"
    value = f"<strong>{score.value:.3f}</strong><small>{score.low:.3f} to {score.high:.3f}</small>"
    return f"<td{_named(name)}>{value}{spread}{word}</td>"


def _named(name: str) -> str:
    """The name of a cell where a row is a card, on a narrow screen; CIDEr, last in the table, is first there."""
    return f' role=cell data-name="{NAMES[name]}"{" data-first" if name == "cider" else ""}'


def _systems(kept: Mapping[str, Mapping[str, float]], names: list[str]) -> Iterator[str]:
    """What no model scores: one caption for all pictures, and a person."""
    for key, title in _SYSTEMS.items():
        if found := kept.get(key):
            cells = "".join(f"<td{_named(n)}>{f'{found[n]:.3f}' if n in found else ''}</td>" for n in names)
            yield f"<tr class=muted role=row><th scope=row role=rowheader>{title}</th>{cells}</tr>"


def differences(comparison: Comparison) -> str:
    """Each group's differences from the first, with intervals drawn; nothing of one group alone."""
    first, *others = comparison.groups
    reach = {
        name: max(max(abs(end) for end in (d[name].low, d[name].high)) for d in comparison.differences) or 1.0
        for name in (comparison.scores[0] if others else [])
    }  # a scale a score, the same in all groups
    parts = []
    for group, found in zip(others, comparison.differences, strict=True):
        rows = [
            f"<tr><th scope=row>{NAMES[name]}</th><td>{d.value:+.3f}</td><td>{d.low:+.3f} to {d.high:+.3f}</td>"
            f"<td class=left>{_whisker(d, reach[name])}</td><td>{p_text(d.p).replace('<', '&lt;')}</td>"
            f"<td class=left>{_word(d)}</td></tr>"
            for name, d in found.items()
        ]
        head = (
            "<th scope=col>Score</th><th scope=col>Difference</th><th scope=col>95 % interval</th>"
            "<th scope=col class=left>On its own scale</th><th scope=col>p</th><th scope=col class=left>In words</th>"
        )
        parts.append(f"<h3>{escape(group.name)} less {escape(first.name)}</h3>{_table(head, rows)}")
    return "".join(parts)


def _word(d: Difference) -> str:
    if not d.shown:
        return "no difference shown"
    return "<span class=better>better</span>" if d.value > 0 else "<span class=worse>worse</span>"


def _whisker(d: Difference, reach: float) -> str:
    """An interval as a line with its value as a disc, zero in the middle."""
    low, value, high = (f"{_WIDTH / 2 * (1 + x / reach * 0.95):.1f}" for x in (d.low, d.value, d.high))
    middle = _HEIGHT // 2
    return (
        f'<svg class=whisker viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden=true>'
        f'<path d="M{_WIDTH // 2} 2V{_HEIGHT - 2}" stroke="var(--soft)" stroke-dasharray="2 3" />'
        f'<path d="M{low} {middle}H{high}M{low} {middle - 4}v8M{high} {middle - 4}v8" stroke="var(--ink)" fill=none />'
        f'<circle cx={value} cy={middle} r=4 fill="var(--ink)" /></svg>'
    )


def settings(comparison: Comparison) -> str:
    """The settings that not all groups have alike, a row a setting; of one group alone, all of them."""
    experiments = [group.experiments[0] for group in comparison.groups]
    first = experiments[0]
    keys = dict.fromkeys(key for other in experiments[1:] for key in changed(first, other))
    code = [other for other in experiments if other.code != first.code]
    if len(experiments) == 1:
        return _all_settings(first)
    if not keys and not code:
        return "<p class=hint>None.</p>"
    rows = []
    for key in keys:
        values = [experiment.settings.get(key) for experiment in experiments]
        cells = "".join(
            f"<td class=left>{_value(value, key in e.settings)}</td>"
            for value, e in zip(values, experiments, strict=True)
        )
        rows.append(f"<tr><th scope=row><code>{escape(key)}</code></th>{cells}</tr>")
    if code:
        cells = "".join(f"<td class=left>{_code(first.code, e.code)}</td>" for e in experiments)
        rows.append(f"<tr><th scope=row>Source code</th>{cells}</tr>")
    head = "".join(f"<th scope=col class=left>{escape(group.name)}</th>" for group in comparison.groups)
    return _table(f"<th scope=col>Setting</th>{head}", rows, "words")


def _all_settings(experiment: Experiment) -> str:
    """A table a section of params.yaml, folded up but for what has no section."""
    sections: dict[str, list[str]] = {}
    for key, value in sorted(experiment.settings.items(), key=lambda item: item[0]):
        section, _, name = key.rpartition(".") if "." not in key else key.partition(".")
        row = f"<tr><th scope=row><code>{escape(name)}</code></th><td class=left>{_value(value, True)}</td></tr>"
        sections.setdefault(section, []).append(row)
    head = "<th scope=col>Setting</th><th scope=col class=left>Value</th>"
    return "".join(
        f"<details{'' if section else ' open'}><summary>{escape(section) or 'experiment'} "
        f"<small>{len(rows)} settings</small></summary>{_table(head, rows, 'words')}</details>"
        for section, rows in sorted(sections.items())
    )


def _value(value: Any, there: bool) -> str:
    if not there:
        return "<small>has no such setting</small>"
    return "<small>empty</small>" if value is None else f"<code>{escape(_plain(value))}</code>"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _code(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    names = [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]
    return f"other in {escape(', '.join(names))}" if names else "the first's"


def _table(head: str, rows: list[str], kind: str = "") -> str:
    return (
        f'<div class="scroll {kind}" tabindex=0 role=group aria-label=Table><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )

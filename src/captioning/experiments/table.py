"""Experiments side by side, a row each: scores, and what was changed, in a table that fits the terminal.

DVC collects them, as it does for `dvc exp show`, whose table has a column for every setting and every source file.
A row whose scores are another setting's has the reason in place of its scores.
"""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from dvc.utils.flatten import flatten

from captioning.experiments import coherence
from captioning.experiments.coherence import METRICS, Examined
from captioning.experiments.revisions import WORKSPACE, Revision
from captioning.metrics import NAMES
from captioning.system.errors import UserError

Commit = Mapping[str, Any]
"""A commit, or an experiment's state, as `dvc exp show --json` has it."""

_HEAD, _GAP, _INDENT = "experiment", "  ", "    "
_MIN_CHANGED = 30  # characters of a column with what was changed
_DONE = ("", "success")  # of DVC's states
_LIBRARY = "src/captioning/"
_CODE = (_LIBRARY, "stages/")
_MAX_PATHS = 3  # of changed code, so many folders and files are named


@dataclass(frozen=True)
class Row:
    """A commit, or one of its experiments.

    scores: by name, as in data/evaluate/metrics.json. changed: `setting=value` of those that differ from the commit,
    and `code:` with folders and files. state: DVC's word where it is not done: running, queued, failed; or why its
    scores are not shown. edited: whether its code is newer than its scores.
    """

    name: str
    scores: Mapping[str, float]
    changed: list[str] = field(default_factory=list)
    state: str = ""
    edited: bool = False


def examined(document: Sequence[Commit]) -> dict[str, Examined]:
    """Do the scores of each commit and experiment belong to its settings? By commit, and `workspace`."""
    states = [*document, *(tip for commit in document for _, tip, status in _latest(commit) if status in _DONE)]
    return {state["rev"]: _examine(state["name"] or state["rev"], state["rev"]) for state in states}


def _examine(name: str, rev: str) -> Examined:
    try:
        return coherence.examine(Revision(name, rev), [METRICS])
    except UserError as fault:  # a file that says with what it ran is damaged: its row says so, the others are shown
        return Examined(str(fault), [])


def collect(
    document: Sequence[Commit], by: str | None = None, known: Mapping[str, Examined] = MappingProxyType({})
) -> list[Row]:
    """The experiments of each commit below its own row, out of what `dvc exp show --json` prints.

    The workspace is a row if no other has its settings and scores. by: a score; experiments are sorted by it, the best
    first, those without it last. known: what `examined` found. Raises UserError when no row has that score.
    """
    workspace, *commits = document
    blocks = [list(_block(state, by, known)) for state in commits]
    rows = [row for block in blocks for row in block]
    names = sorted({name for row in rows for name in row.scores})
    if by is not None and by not in names:
        raise UserError(f"--by {by}: no experiment here has this score; there are: {', '.join(names) or 'none'}")
    here = _checked(_row(WORKSPACE, workspace, commits[0]), known.get(workspace["rev"]))
    is_listed = any(
        (row.scores, row.changed, row.state) == (here.scores, here.changed, here.state) for row in blocks[0]
    )
    return rows if is_listed else [here, *rows]


def _latest(commit: Commit) -> Iterator[tuple[str, Commit, str]]:
    """The last state of each experiment of a commit, with its name, and DVC's word for where it is."""
    for each in commit["experiments"] or []:
        for tip in each["revs"][:1]:
            yield (
                tip["name"] or each["name"] or tip["rev"][:7],
                tip,
                (each["executor"] or {"state": ""})["state"],
            )


def _checked(row: Row, examined: Examined | None) -> Row:
    """A row without its scores if they are another setting's."""
    if examined and examined.fault and not row.state:
        return replace(row, scores={}, state=f"not its own scores: {examined.fault}")
    return replace(row, edited=bool(examined and examined.code))


def _block(baseline: Commit, by: str | None, known: Mapping[str, Examined]) -> Iterator[Row]:
    """A commit's row, and those of its experiments."""
    yield _checked(Row(baseline["name"] or baseline["rev"][:7], _scores(baseline)), known.get(baseline["rev"]))
    experiments = [
        _checked(_row(name, tip, baseline, status), known.get(tip["rev"])) for name, tip, status in _latest(baseline)
    ]
    if by is not None:
        experiments.sort(key=lambda row: -row.scores.get(by, float("-inf")))
    yield from experiments


def _row(name: str, state: Commit, baseline: Commit, status: str = "") -> Row:
    done = status in _DONE
    return Row(name, _scores(state) if done else {}, _changed(baseline, state), "" if done else status)


def _scores(state: Commit) -> dict[str, float]:
    """All metrics that are numbers. What DVC could not read has none."""
    values = _values(state["data"]["metrics"]) if state["data"] else {}
    return {name: value for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}


def _values(files: Mapping[str, Any]) -> dict[str, Any]:
    parts = [flatten(file["data"]) for file in files.values() if isinstance(file.get("data"), dict)]
    return {name: value for part in parts for name, value in part.items()}


def _changed(baseline: Commit, state: Commit) -> list[str]:
    """What an experiment has otherwise than its commit."""
    if not (baseline["data"] and state["data"]):
        return []
    before, after = _values(baseline["data"]["params"]), _values(state["data"]["params"])
    settings = [f"{key}={_plain(after[key])}" for key in after if key not in before or before[key] != after[key]]
    paths = sorted({path.removeprefix(_LIBRARY) for path, _ in _code(baseline) ^ _code(state)})
    more = f" and {len(paths) - _MAX_PATHS} more" if len(paths) > _MAX_PATHS else ""
    return settings + ([f"code: {' '.join(paths[:_MAX_PATHS])}{more}"] if paths else [])


def _code(state: Commit) -> set[tuple[str, str]]:
    """Source files and folders, and the digests with which they ran."""
    deps = state["data"]["deps"]
    return {(path, dep["hash"]) for path, dep in deps.items() if path.startswith(_CODE) and dep["hash"]}


def _plain(value: Any) -> str:
    """A value as it is written after `-S setting=`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def table(rows: Sequence[Row], width: int) -> list[str]:
    """The rows as lines of at most `width` characters.

    Scores beyond the usual ones are columns if the first row with scores has them; older commits had other metrics.
    What was changed is in a column of its own where there is room for it, else below its row.
    """
    present = {name for row in rows for name in row.scores}
    first_scores = next((row.scores for row in rows if row.scores), {})
    names = [name for name in NAMES if name in present] + sorted(first_scores.keys() - NAMES.keys())
    titles = [NAMES.get(name, name).split("_") for name in names]
    widths = [max(len(part) for part in [*title, "0.000"]) for title in titles]
    available = width - sum(column + len(_GAP) for column in widths)  # for names, and for what was changed
    name_width = max(min(max(len(row.name) for row in rows), available), len(_HEAD))
    room = available - name_width - len(_GAP) if available - name_width - len(_GAP) >= _MIN_CHANGED else 0
    header, lines = _header(titles, widths, name_width, "changed" if room else ""), list[str]()
    for row in rows:
        scores = [f"{row.scores[name]:.3f}" if name in row.scores else "–" for name in names]
        head = [row.name] if len(row.name) > name_width else []
        text = _line("" if head else row.name, scores, widths, name_width)
        changed = textwrap.wrap(", ".join([row.state] * bool(row.state) + row.changed), room or width - len(_INDENT))
        lines += head + (_with_changes(text, changed) if room else [text, *(_INDENT + part for part in changed)])
    return [*header, "─" * max(map(len, header + lines)), *lines]


def _header(titles: list[list[str]], widths: list[int], name_width: int, final: str) -> list[str]:
    """Titles in as many lines as the longest has parts, the last parts in the last line."""
    height = max((len(title) for title in titles), default=1)
    padded = [[""] * (height - len(title)) + title for title in titles]
    lines = [_line("", [title[k] for title in padded], widths, name_width) for k in range(height - 1)]
    bottom = _line(_HEAD, [title[-1] for title in padded], widths, name_width)
    return [line.rstrip() for line in lines] + _with_changes(bottom, [final] if final else [])


def _line(name: str, cells: Sequence[str], widths: Sequence[int], name_width: int) -> str:
    return _GAP.join([f"{name:<{name_width}}", *(f"{cell:>{wide}}" for cell, wide in zip(cells, widths, strict=True))])


def _with_changes(text: str, parts: Sequence[str]) -> list[str]:
    """A line with what was changed at its end, and as many more as that takes."""
    lines = [text, *[" " * len(text)] * (len(parts) - 1)]
    return [f"{line}{_GAP}{part}" for line, part in zip(lines, parts, strict=True)] if parts else [text]

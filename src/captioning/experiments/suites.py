"""Suites: a family of experiments that answers one question, in a file of its own, `experiments/NAME.yaml`."""

import difflib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from dvc.utils.flatten import flatten
from pydantic import Field, ValidationError

from captioning.settings.schema import Written
from captioning.settings.sections import Natural, Section
from captioning.settings.yaml_lines import key_lines, loads, parse, repeated_keys
from captioning.system.errors import UserError

FOLDER = Path("experiments")
SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")

Value = bool | int | float | str | None
Overrides = dict[str, Value]
Lines = Mapping[tuple[str, ...], int]


class _File(Section):
    """What a suite's file may say; settings are dotted keys of params.yaml."""

    question: Annotated[str, Field(min_length=1)]
    overrides: Overrides = Field(default_factory=dict)  # settings of every run
    seeds: Annotated[list[Natural], Field(min_length=1)] | None = None  # each run once a seed; None: the baseline's
    runs: Annotated[dict[str, Overrides], Field(min_length=1)] | None = None
    grid: Annotated[dict[str, Annotated[list[Value], Field(min_length=1)]], Field(min_length=1)] | None = None
    scores: Annotated[list[str], Field(min_length=1)] = Field(default_factory=lambda: list(SCORES))  # dotted metrics


@dataclass(frozen=True)
class Run:
    """One experiment of a suite: `label` says what it is, `overrides` make it, `name` is DVC's for it."""

    name: str
    label: str
    seed: int | None
    overrides: Overrides

    @property
    def arguments(self) -> list[str]:
        """`key=value` for each override, as `dvc exp run -S` reads it."""
        return [f"{key}={_as_override(value)}" for key, value in self.overrides.items()]


@dataclass(frozen=True)
class Suite:
    """A family of experiments and the question that it answers."""

    name: str
    question: str
    scores: list[str]
    runs: list[Run]

    @property
    def labels(self) -> list[str]:
        """The runs without their seeds, in order."""
        return list(dict.fromkeys(run.label for run in self.runs))

    def of(self, label: str) -> list[Run]:
        """The runs of one label, a seed each."""
        return [run for run in self.runs if run.label == label]

    def command(self, label: str) -> str:
        """What a person types for one run of a label, its first seed."""
        return " ".join(["dvc exp run", *(f"-S {shlex.quote(text)}" for text in self.of(label)[0].arguments)])


def names() -> list[str]:
    """The suites there are, sorted. Raises UserError when there is none."""
    suites = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if not suites:
        raise UserError(f"no suites here: {FOLDER}/*.yaml has no file; run in the project's folder")
    return suites


def owner(run: str) -> str | None:
    """The suite that has a run of this name, or None. Raises UserError, as `load` does."""
    suites = sorted(path.stem for path in FOLDER.glob("*.yaml") if run.startswith(f"{path.stem}-"))
    return next((suite for suite in suites if run in {candidate.name for candidate in load(suite).runs}), None)


def load(name: str, params: Path = Path("params.yaml")) -> Suite:
    """Read a suite and check it: its own form, and that params.yaml takes each run's overrides.

    Raises UserError that lists every fault, each with file, line and key.
    """
    suites = names()
    if name not in suites:
        raise UserError(f"{name}: no such suite; there are {', '.join(suites)}")
    path = FOLDER / f"{name}.yaml"
    values, tree = parse(path)
    lines = dict(key_lines(tree))
    faults = [f"line {line}: {key} is given twice" for key, line in repeated_keys(tree)]
    try:
        file = _File.model_validate(values)
    except ValidationError as invalid:
        faults += [_form_fault(dict(error), lines) for error in invalid.errors()]
    else:
        if (file.runs is None) == (file.grid is None):
            faults.append("line 1: give one of `runs` (named overrides) and `grid` (values to combine)")
        else:
            runs = _runs(name, file)
            faults += _repeated_names(runs) + _override_faults(runs, lines, parse(params)[0])
    if faults:
        raise UserError("\n".join(f"{path}, {fault}" for fault in dict.fromkeys(faults)))
    return Suite(name, file.question, file.scores, runs)


def _runs(name: str, file: _File) -> list[Run]:
    seeds: list[int | None] = list(file.seeds) if file.seeds else [None]
    labelled = file.runs if file.runs is not None else _combined(file.grid or {})
    return [
        Run(
            "-".join([name, _slug(label), *([] if seed is None else [f"s{seed}"])]),
            label,
            seed,
            file.overrides | overrides | ({} if seed is None else {"seed": seed}),
        )
        for label, overrides in labelled.items()
        for seed in seeds
    ]


def _combined(grid: Mapping[str, list[Value]]) -> dict[str, Overrides]:
    """Every combination of the grid's values, named by them; by key and value where there are several keys."""
    prefixes = {key: f"{key.rpartition('.')[2]}=" if len(grid) > 1 else "" for key in grid}
    return {
        ", ".join(f"{prefixes[key]}{_as_override(value)}" for key, value in zip(grid, values, strict=True)): dict(
            zip(grid, values, strict=True)
        )
        for values in itertools.product(*grid.values())
    }


def _slug(label: str) -> str:
    """A label as part of an experiment's name, which git keeps as a reference."""
    return re.sub(r"\.\.+|[^\w.]+", "-", label.replace("=", "")).strip("-.")


def _as_override(value: Value) -> str:
    """A value as `-S` reads it back: text that could be read as something else is quoted."""
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower()
    if re.fullmatch(r"[\w./+-]+", value) and isinstance(loads(value), str):
        return value
    quoted = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)  # Hydra's grammar
    return f"'{quoted}'"


def _repeated_names(runs: Iterable[Run]) -> list[str]:
    counts = Counter(run.name for run in runs)
    repeated = [name for name, count in counts.items() if count > 1]
    return [f"line 1: two runs would be called {name}; name them apart under `runs`" for name in repeated]


def _override_faults(runs: Iterable[Run], lines: Lines, params: Mapping[str, Any]) -> list[str]:
    """The overrides that params.yaml does not take, with their lines in the suite's file."""
    faults = []
    for run in runs:
        values = _copied(params)
        unknown = [key for key, value in run.overrides.items() if not _set(values, key, value)]
        faults += [f"line {_line(lines, run, key)}: {key} is not a setting{_closest(key, params)}" for key in unknown]
        if not unknown:
            faults += [_override_fault(dict(error), run, lines) for error in _invalid(values)]
    return faults


def _invalid(values: Mapping[str, Any]) -> list[Any]:
    try:
        Written.model_validate(values)
    except ValidationError as invalid:
        return invalid.errors()
    return []


def _override_fault(error: Mapping[str, Any], run: Run, lines: Lines) -> str:
    where = ".".join(str(part) for part in error["loc"])
    key = next((key for key in run.overrides if where == key or where.startswith(f"{key}.")), where)
    message = f"{error['msg'][0].lower()}{error['msg'][1:]}"
    return f"line {_line(lines, run, key)}: {key} = {error['input']!r}: {message}"


def _line(lines: Lines, run: Run, key: str) -> int:
    """The line in a suite's file that gives this run its override."""
    keys = [("runs", run.label, key), ("grid", key), ("overrides", key), ("seeds",)]
    return next((lines[path] for path in keys if path in lines), 1)


def _set(values: dict[str, Any], key: str, value: Value) -> bool:
    """Set a dotted key that is there; return whether it is."""
    *sections, name = key.split(".")
    for section in sections:
        values = values.get(section, {})
        if not isinstance(values, dict):
            return False
    exists = name in values
    values[name] = value
    return exists


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in values.items()}


def _closest(key: str, params: Mapping[str, Any]) -> str:
    keys = list(flatten(params))
    matches = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    matches = matches or [other for other in keys if other.endswith(f".{key}")][:1]
    return f"; did you mean {matches[0]}?" if matches else "; remove it"


def _form_fault(error: Mapping[str, Any], lines: Lines) -> str:
    """One fault of a suite's form: line, key, and what is wrong."""
    where = tuple(str(part) for part in error["loc"])
    shown = where
    while shown and shown not in lines and error["type"] != "missing":
        shown = shown[:-1]
    key, line = ".".join(shown), lines.get(shown, lines.get(shown[:-1], 1))
    if error["type"] == "extra_forbidden":
        matches = difflib.get_close_matches(where[-1], list(_File.model_fields), n=1)
        return f"line {line}: {key} is not part of a suite; {f'did you mean {matches[0]}?' if matches else 'remove it'}"
    if error["type"] == "missing":
        return f"line {line}: {key} is missing"
    return f"line {line}: {key}: {error['msg'][0].lower()}{error['msg'][1:]}"
